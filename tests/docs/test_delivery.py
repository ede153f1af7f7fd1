"""The programs of the page about acknowledged delivery, beside an Elixir node."""

from pathlib import Path

import pytest
from blocks import block

from polling import wait_until
from test_gen_server_otp import COMPILE
from test_system_messages_otp import elixir_path

pytestmark = [pytest.mark.otp, pytest.mark.timeout(120)]

SOURCE = Path(__file__).parents[2] / "examples/cep/elixir/source.exs"


def test_python_nodes_acknowledge_the_messages_of_an_elixir_source(cluster, program):
    web = cluster.beam("web", arguments=elixir_path(None))
    web.eval("{ok, _} = pg:start(pg)")
    web.eval(COMPILE, Source=SOURCE.read_bytes())
    workers = [program("delivery-python", name) for name in ("one", "two")]
    wait_until(lambda: web.eval('length(pg:get_members(<<"workers">>))') == 2, 60)

    code = f"spawn(fn ->\n{block('delivery-elixir')}\nProcess.sleep(:infinity)\nend)"
    web.eval(COMPILE, Source=code.encode())

    wait_until(lambda: workers[0].logged("one customer") and workers[1].logged("two customer"), 60)
    wait_until(lambda: web.eval("'Elixir.Source':kept(orders)") == 0, 60)
