"""A client for code without an event loop: the calling threads read and write the connections themselves."""
