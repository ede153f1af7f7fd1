"""Find other nodes by a list, by DNS, or by a file. Discovery only connects nodes; it never disconnects one."""
