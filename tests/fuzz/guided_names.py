"""The names of the targets of the coverage-guided fuzzer, without importing erlmesh, which is to be instrumented."""

NAMES = ("decoder", "handshake", "channel", "epmd", "services")
