"""A prompt on another node: lines run there, what they print comes here."""

import asyncio
import re

import pytest
from shell_harness import free_port, new_node

from erlmesh.errors import ConnectError
from erlmesh.shell.remsh_client import RemoteSession
from erlmesh.shell.remsh_server import start_remsh_server
from erlmesh.terms import Atom


def visiting(test):
    """Runs ``async def test(there, session, capsys)`` with a session opened on the node ``there``."""

    def run(capsys):
        async def body():
            port = free_port()
            async with (
                asyncio.timeout(20),
                new_node("plato", port) as there,
                new_node("visitor", port, hidden=True) as here,
            ):
                start_remsh_server(there)
                await here.ping(there.name)
                session = RemoteSession(here, there.name)
                await session.open()
                await test(there, session, capsys)

        asyncio.run(body())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


@visiting
async def test_a_line_runs_there_and_is_shown_here(there, session, capsys):
    assert session.prompt == "py(plato@127.0.0.1)1> "

    await session.run("Node.self")
    await session.run("x = 20")
    await session.run("print(x + 1)")

    assert capsys.readouterr().out == ':"plato@127.0.0.1"\n21\n'
    assert session.prompt == "py(plato@127.0.0.1)4> "
    assert session.exit_code is None


@visiting
async def test_errors_come_on_the_error_stream(there, session, capsys):
    await session.run("1/0")

    assert capsys.readouterr().err == "** (ZeroDivisionError) division by zero\n"


@visiting
async def test_the_visitor_is_in_nobodys_node_list(there, session, capsys):
    await session.run("Node.list")

    assert capsys.readouterr().out == "[]\n"
    assert there.nodes() == []


@visiting
async def test_what_is_printed_after_the_line_comes_too(there, session, capsys):
    await session.run("async def late(): print(await receive(), flush=True)")
    await session.run("pid = spawn(lambda me: late())")
    await session.run("exit(self, :kill)")

    await until(lambda: "the shell's process ended: :killed" in capsys.readouterr().err)


@visiting
async def test_a_waiting_line_can_be_interrupted(there, session, capsys):
    line = asyncio.ensure_future(session.run("receive()"))
    await until(there.processes)
    while not line.done():
        session.interrupt()
        await asyncio.sleep(0.005)

    assert capsys.readouterr().err == "** interrupted\n"


@visiting
async def test_exit_leaves_and_the_node_stays(there, session, capsys):
    await session.run("exit(3)")

    assert session.exit_code == 3
    assert there.is_alive(there.whereis("shell"))


@visiting
async def test_tab_offers_what_is_known_there(there, session, capsys):
    await session.run("somewhere = 1")

    assert [each.text for each in await session.completions("somew")] == ["somewhere"]


@visiting
async def test_a_closed_session_leaves_nothing_behind(there, session, capsys):
    await session.run("pg.join(:group, self)")
    before = len(there.pg.get_members(Atom("group")))
    session.close()

    await until(lambda: not there.pg.get_members(Atom("group")))
    assert before == 1
    await until(lambda: there.processes()[-1] == there.whereis("shell"))


@visiting
async def test_the_end_of_the_node_ends_the_session(there, session, capsys):
    lost = asyncio.Event()
    session.on_close = lost.set
    await there.stop()

    await lost.wait()
    assert session.exit_code == 1
    assert "the shell on plato@127.0.0.1 is gone" in capsys.readouterr().err


def test_a_node_that_lets_nobody_in_says_how_it_would():
    async def body():
        port = free_port()
        async with (
            asyncio.timeout(20),
            new_node("plato", port) as there,
            new_node("visitor", port, hidden=True) as here,
        ):
            await here.ping(there.name)
            with pytest.raises(ConnectError, match=re.escape("without --allow-remsh")):
                await RemoteSession(here, there.name).open()

    asyncio.run(body())
