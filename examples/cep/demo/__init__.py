"""The demo: real nodes are killed, paused, cut off and stopped, and the results are compared with an oracle."""
