"""erlmesh's own simulation suite: random scenarios on simulated clusters, checked against a model and invariants."""
