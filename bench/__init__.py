"""erlmesh beside the BEAM, measured in turns in one run: ``make bench``, or ``python -m bench --help``."""
