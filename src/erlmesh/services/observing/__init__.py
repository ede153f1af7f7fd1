"""What the tools of Erlang and Elixir ask a node that they show: observer, etop, LiveDashboard, ``c:ni()``."""
