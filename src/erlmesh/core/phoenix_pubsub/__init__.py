"""Phoenix.PubSub: what a member decides. No I/O: tables and names."""
