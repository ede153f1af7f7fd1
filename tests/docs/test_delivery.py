"""The programs of the page about acknowledged delivery, beside an Elixir node."""

import sys
from pathlib import Path

import pytest
from blocks import all_blocks

from beam import NoSuchOtp
from cluster import running_cluster
from os_process import OsProcess
from polling import wait_until
from pynode import python_environment
from skips import skip_or_fail
from test_gen_server_otp import COMPILE
from test_system_messages_otp import elixir_path

pytestmark = [pytest.mark.otp, pytest.mark.timeout(120)]

SOURCE = Path(__file__).parents[2] / "examples/cep/elixir/source.exs"


def block(check):
    (found,) = [each for each in all_blocks() if each.check == check]
    return found.text


@pytest.fixture
def cluster(tmp_path):
    try:
        with running_cluster(tmp_path) as cluster:
            yield cluster
    except NoSuchOtp as error:
        skip_or_fail(str(error))


def test_python_nodes_acknowledge_the_messages_of_an_elixir_source(cluster, tmp_path):
    web = cluster.beam("web", arguments=elixir_path(None))
    web.eval("{ok, _} = pg:start(pg)")
    web.eval(COMPILE, Source=SOURCE.read_bytes())
    path = tmp_path / "worker.py"
    path.write_text(block("delivery-python"))
    workers = []
    for name in ("one", "two"):
        command = [sys.executable, str(path), name]
        workers.append(OsProcess(name, command, python_environment(cluster.epmd_port, tmp_path)))
        cluster.processes.append(workers[-1])
    wait_until(lambda: web.eval('length(pg:get_members(<<"workers">>))') == 2, 60)

    code = f"spawn(fn ->\n{block('delivery-elixir')}\nProcess.sleep(:infinity)\nend)"
    web.eval(COMPILE, Source=code.encode())

    wait_until(lambda: workers[0].logged("one customer") and workers[1].logged("two customer"), 60)
    wait_until(lambda: web.eval("'Elixir.Source':kept(orders)") == 0, 60)
