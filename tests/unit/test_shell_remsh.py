"""A remote shell: lines run on another node, and their output is printed client_node."""

import asyncio
import re

import pytest
from shell_harness import free_port, new_node

from erlmesh.errors import ConnectError
from erlmesh.shell.remsh_client import RemoteSession
from erlmesh.shell.remsh_server import start_remsh_server
from erlmesh.terms import Atom


def with_remote_session(test):
    """Run ``async def test(remote_node, session, capsys)`` with a session open on ``remote_node``."""

    def run(capsys):
        async def body():
            port = free_port()
            async with (
                asyncio.timeout(20),
                new_node("plato", port) as remote_node,
                new_node("client", port, hidden=True) as client_node,
            ):
                start_remsh_server(remote_node)
                await client_node.ping(remote_node.name)
                session = RemoteSession(client_node, remote_node.name)
                await session.open()
                await test(remote_node, session, capsys)

        asyncio.run(body())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


@with_remote_session
async def test_a_line_runs_on_the_remote_node_and_prints_here(remote_node, session, capsys):
    assert session.prompt == "py(plato@127.0.0.1)1> "

    await session.run("Node.self")
    await session.run("x = 20")
    await session.run("print(x + 1)")

    assert capsys.readouterr().out == ':"plato@127.0.0.1"\n21\n'
    assert session.prompt == "py(plato@127.0.0.1)4> "
    assert session.exit_code is None


@with_remote_session
async def test_errors_are_printed_to_stderr(remote_node, session, capsys):
    await session.run("1/0")

    assert capsys.readouterr().err == "** (ZeroDivisionError) division by zero\n"


@with_remote_session
async def test_the_client_is_not_in_the_list_of_visible_nodes(remote_node, session, capsys):
    await session.run("Node.list")

    assert capsys.readouterr().out == "[]\n"
    assert remote_node.nodes() == []


@with_remote_session
async def test_the_exit_of_the_shells_process_is_printed(remote_node, session, capsys):
    await session.run("async def late(): print(await receive(), flush=True)")
    await session.run("pid = spawn(lambda me: late())")
    await session.run("exit(self, :kill)")

    await until(lambda: "the shell's process exited: :killed" in capsys.readouterr().err)


@with_remote_session
async def test_a_waiting_line_can_be_interrupted(remote_node, session, capsys):
    line = asyncio.ensure_future(session.run("receive()"))
    await until(remote_node.internals.processes)
    while not line.done():
        session.interrupt()
        await asyncio.sleep(0.005)

    assert capsys.readouterr().err == "** interrupted\n"


@with_remote_session
async def test_exit_ends_the_session_and_not_the_node(remote_node, session, capsys):
    await session.run("exit(3)")

    assert session.exit_code == 3
    assert remote_node.internals.is_alive(remote_node.whereis("shell"))


@with_remote_session
async def test_tab_completes_names_of_the_remote_session(remote_node, session, capsys):
    await session.run("somewhere = 1")

    assert [each.text for each in await session.completions("somew")] == ["somewhere"]


@with_remote_session
async def test_a_closed_session_leaves_no_processes_or_members(remote_node, session, capsys):
    await session.run("pg.join(:group, self)")
    before = len(remote_node.pg.get_members(Atom("group")))
    session.close()

    await until(lambda: not remote_node.pg.get_members(Atom("group")))
    assert before == 1
    await until(lambda: remote_node.internals.processes()[-1] == remote_node.whereis("shell"))


@with_remote_session
async def test_stopping_the_remote_node_ends_the_session(remote_node, session, capsys):
    closed = asyncio.Event()
    session.on_close = closed.set
    await remote_node.stop()

    await closed.wait()
    assert session.exit_code == 1
    assert "the shell on plato@127.0.0.1 ended" in capsys.readouterr().err


def test_a_refused_session_names_the_option_that_allows_it():
    async def body():
        port = free_port()
        async with (
            asyncio.timeout(20),
            new_node("plato", port) as remote_node,
            new_node("client", port, hidden=True) as client_node,
        ):
            await client_node.ping(remote_node.name)
            with pytest.raises(ConnectError, match=re.escape("start it with --allow-remsh")):
                await RemoteSession(client_node, remote_node.name).open()

    asyncio.run(body())
