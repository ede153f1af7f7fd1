# The tests need a node with a name, and Python with erlmesh:
#
#     COMPANION_PYTHON=../.venv/bin/python elixir --name test@127.0.0.1 -S mix test
ExUnit.start(assert_receive_timeout: 5_000, capture_log: true)
Code.require_file("support/case.exs", __DIR__)
