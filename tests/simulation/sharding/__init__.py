"""Simulated clusters whose nodes hold shards: faults, invariants, and mutants of the protocol."""
