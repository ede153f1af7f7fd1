"""The synchronous node beside real Erlang and real nodes of erlmesh."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import erlmesh
from erlmesh import (
    Atom,
    CalleeExited,
    CallTimeout,
    Joined,
    Left,
    NoConnection,
    NoProcess,
    RemoteError,
    RemoteExit,
    RemoteThrow,
)
from polling import HANG, wait_until
from skips import import_or_skip

pytestmark = [pytest.mark.timeout(120)]

SERVER = r"""
    Source = "-module(sync_server). -behaviour(gen_server). -export([init/1, handle_call/3, handle_cast/2]).
        init(State) -> {ok, State}.
        handle_call({echo, Term}, _, State) -> {reply, Term, State};
        handle_call({sleep, Time}, _, State) -> timer:sleep(Time), {reply, slept, State};
        handle_call({later, Time}, From, State) ->
            spawn(fun() -> timer:sleep(Time), gen_server:reply(From, {later, Time}) end), {noreply, State};
        handle_call({pid_of_caller}, {Pid, _}, State) -> {reply, Pid, State};
        handle_call(get, _, State) -> {reply, State, State};
        handle_call({exit, Reason}, _, State) -> {stop, Reason, State}.
        handle_cast(Term, _) -> {noreply, Term}. ",
    {ok, Tokens, _} = erl_scan:string(Source),
    Split = fun
        Split([], []) -> [];
        Split([{dot, _} = Dot | Rest], Form) -> [lists:reverse([Dot | Form]) | Split(Rest, [])];
        Split([Token | Rest], Form) -> Split(Rest, [Token | Form])
    end,
    Forms = [element(2, erl_parse:parse_form(Form)) || Form <- Split(Tokens, [])],
    {ok, Module, Binary} = compile:forms(Forms),
    {module, Module} = code:load_binary(Module, "sync_server", Binary),
    {ok, Server} = gen_server:start({local, server}, Module, none, []),
    Server
"""


@pytest.fixture
def beam(cluster, otp):
    beam = cluster.beam("wallet", otp=otp)
    beam.eval(SERVER)
    return beam


@pytest.fixture
def node(cluster, beam):
    with erlmesh.connect(beam.name, cookie="monster", epmd_port=cluster.epmd_port) as node:
        yield node


def test_calls_of_a_gen_server(beam, node):
    server = beam.eval("whereis(server)")

    assert node.call("server", (Atom("echo"), [1, 2.5, b"x", {Atom("k"): "v"}])) == [1, 2.5, b"x", {Atom("k"): b"v"}]
    assert node.call(server, (Atom("echo"), 2)) == 2
    assert node.call(("server", beam.name), (Atom("later"), 5)) == (Atom("later"), 5)
    node.cast("server", 7)
    assert node.call("server", Atom("get")) == 7


def test_errors_of_calls(beam, node):
    with pytest.raises(NoProcess, match="nobody on wallet"):
        node.call("nobody", 1)
    with pytest.raises(CallTimeout, match="server"):
        node.call("server", (Atom("sleep"), 300), timeout=0.1)
    assert node.call("server", (Atom("echo"), 1)) == 1
    with pytest.raises(CalleeExited) as caught:
        node.call("server", (Atom("exit"), Atom("crash")))
    assert caught.value.reason is Atom("crash")
    with pytest.raises(NoProcess):
        node.call("server", 1)


def test_a_call_leaves_no_monitor_and_no_message_behind(beam, node):
    for time_limit in (0.05, 5):
        try:
            node.call("server", (Atom("later"), 150), timeout=time_limit)
        except CallTimeout:
            continue

    wait_until(lambda: beam.eval("process_info(whereis(server), monitored_by)") == (Atom("monitored_by"), []))
    with pytest.raises(TimeoutError):
        node.receive(timeout=0.01)
    assert node._session().router.pending == {}


def test_functions_of_the_node(beam, node, capsys):
    assert node.rpc("lists", "sum", [[1, 2, 3]]) == 6
    assert node.rpc("erlang", "node") is beam.atom
    with pytest.raises(RemoteError) as error:
        node.rpc("erlang", "error", [Atom("bad")])
    assert error.value.reason is Atom("bad")
    with pytest.raises(RemoteThrow):
        node.rpc("erlang", "throw", [1])
    with pytest.raises(RemoteExit):
        node.rpc("erlang", "exit", [1])
    with pytest.raises(CallTimeout):
        node.rpc("timer", "sleep", [500], timeout=0.05)
    with pytest.raises(CalleeExited):
        node.rpc("erlang", "apply", [beam.eval("fun() -> exit(self(), kill), timer:sleep(10000) end"), []])
    node.rpc("io", "format", ["hello ~p~n", [Atom("world")]])
    assert capsys.readouterr().out == "hello world\n"
    node.rpc_cast("erlang", "register", [Atom("mark"), beam.eval("whereis(server)")])  # refused there: it has a name
    assert node.ping()


def test_several_nodes(cluster, beam, node):
    other = cluster.beam("other")
    python = cluster.pynode("python")
    names = [beam.name, other.name, python.name, "nobody@127.0.0.1"]

    found = node.multicall(names, "erlang", "node")

    assert found.replies == {beam.name: beam.atom, other.name: other.atom, python.name: Atom(python.name)}
    assert isinstance(found.missing["nobody@127.0.0.1"], NoConnection)
    assert other.eval("nodes()") == []  # the node is hidden, and brings no nodes together
    assert set(other.eval("nodes(hidden)")) == {Atom(node.name)}


def test_messages_in_both_directions(beam, node):
    echo = beam.eval(
        "register(echo, spawn(fun L() -> receive {From, T} -> From ! {back, T}, L() end end)), whereis(echo)"
    )

    node.send("echo", (node.pid, 1))
    node.send(echo, (node.pid, 2))

    assert [node.receive(timeout=HANG), node.receive(timeout=HANG)] == [(Atom("back"), 1), (Atom("back"), 2)]
    assert beam.eval("net_adm:ping(Node)", Node=Atom(node.name)) is Atom("pong")


def test_a_process_answers_calls_and_library_requests(beam, node):
    with node.process("inbox") as process:
        beam.eval(
            "spawn(fun() -> register(result, self()), R = gen_server:call({inbox, Node}, {add, 1}), "
            "receive {get, From} -> From ! R end end)",
            Node=Atom(node.name),
        )
        _, caller, request = process.receive(timeout=HANG)
        process.reply(caller, (request, Atom("done")))
        node.send("result", (Atom("get"), node.pid))

        assert node.receive(timeout=HANG) == ((Atom("add"), 1), Atom("done"))
        assert beam.eval("(catch sys:get_state(Pid, 5000)), ok", Pid=process.pid) is Atom("ok")
        assert beam.eval("gen_server:stop(Pid, shutdown, 5000)", Pid=process.pid) is Atom("ok")
        with pytest.raises(erlmesh.Exit):
            process.receive(timeout=HANG)


def test_links_and_monitors_across_the_connection(beam, node):
    pid = beam.eval("spawn(fun() -> receive stop -> exit(over) end end)")
    with node.process() as process:
        ref = process.monitor(pid)
        process.link(pid)
        process.send(pid, Atom("stop"))

        got = [process.receive(timeout=HANG) for _ in range(2)]

        assert sorted(map(repr, got)) == sorted(
            map(
                repr,
                [(Atom("DOWN"), ref, Atom("process"), pid, Atom("over")), (Atom("EXIT"), pid, Atom("over"))],
            )
        )
        watched = process.pid
        beam.eval(
            "register(watcher, spawn(fun() -> R = monitor(process, Pid), "
            "receive {'DOWN', R, _, _, Reason} -> receive {get, From} -> From ! Reason end end end))",
            Pid=watched,
        )
        wait_until(lambda: node._session().router.monitors.is_monitored(watched))
    node.send("watcher", (Atom("get"), node.pid))
    assert node.receive(timeout=HANG) is Atom("normal")


# Groups


def joined_and_left(changes, count):
    """The next ``count`` memberships that came or went, in order."""
    found = []
    while len(found) < count:
        event = next(changes)
        found += [(type(event), pid) for pid in event.pids]
    return found


def test_members_and_changes_of_a_group(beam, node):
    beam.eval("pg:start(pg)")
    join = "P = spawn(fun() -> receive stop -> ok end end), pg:join(workers, P), P"
    first = beam.eval(join)
    changes = node.watch(Atom("workers"), timeout=HANG)
    second = beam.eval("Q = spawn(fun() -> receive stop -> ok end end), pg:join(workers, Q), Q")

    assert joined_and_left(changes, 2) == [(Joined, first), (Joined, second)]
    assert set(node.members(Atom("workers"))) == {first, second}
    beam.eval("First ! stop", First=first)
    assert joined_and_left(changes, 1) == [(Left, first)]
    assert node.members("workers") == []  # a text is a binary
    changes.close()
    assert list(changes) == []


def test_a_watch_continues_when_the_node_is_back(cluster, otp, beam, node):
    beam.eval("pg:start(pg)")
    first = beam.eval("P = spawn(fun() -> receive stop -> ok end end), pg:join(workers, P), P")
    changes = node.watch(Atom("workers"), timeout=HANG)
    assert joined_and_left(changes, 1) == [(Joined, first)]

    beam.kill()
    assert joined_and_left(changes, 1) == [(Left, first)]
    again = cluster.beam("wallet", otp=otp)
    again.eval("pg:start(pg)")
    second = again.eval("P = spawn(fun() -> receive stop -> ok end end), pg:join(workers, P), P")

    assert joined_and_left(changes, 1) == [(Joined, second)]
    changes.close()


def test_the_scope_survives_a_watch(beam, node):
    """OTP 23 and 29 do not know the request of OTP 25 and 27. It would end the server, and with it all groups."""
    beam.eval("{ok, _} = pg:start(pg)")
    server = beam.eval("whereis(pg)")

    with node.watch(Atom("workers"), timeout=0.1) as changes:
        assert list(changes) == []

    assert beam.eval("whereis(pg)") == server


@pytest.mark.otps(27)
def test_groups_of_a_node_of_erlmesh(cluster):
    python = cluster.pynode("python")
    with erlmesh.connect(python.name, cookie="monster", epmd_port=cluster.epmd_port) as node:
        changes = node.watch(Atom("workers"), timeout=HANG)
        pid = python.eval("me.pid")
        python.eval("node.pg.join(Atom('workers'), me.pid)")

        assert joined_and_left(changes, 1) == [(Joined, pid)]
        assert node.members(Atom("workers")) == [pid]
        python.eval("node.pg.leave(Atom('workers'), me.pid)")
        assert joined_and_left(changes, 1) == [(Left, pid)]
        changes.close()


# Losses


def test_threads_share_the_connection_while_the_node_is_killed_and_comes_back(cluster, otp, beam, node):
    outcomes: collections.Counter[str] = collections.Counter()
    wrong, stop = [], threading.Event()

    def work(number):
        call = 0
        while not stop.is_set():
            call += 1
            request = (number, call)
            try:
                reply = node.call("server", (Atom("echo"), request), timeout=HANG)
            except (NoConnection, NoProcess) as error:
                outcomes[type(error).__name__] += 1
                time.sleep(0.001)  # a call during the loss fails at once
                continue
            outcomes["reply"] += 1
            if reply != request:
                wrong.append((request, reply))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        wait_until(lambda: outcomes["reply"] > 200)
        beam.kill()
        wait_until(lambda: outcomes["NoConnection"] > 16)
        beam = cluster.beam("wallet", otp=otp)
        beam.eval(SERVER)
        outcomes.clear()
    wait_until(lambda: outcomes["reply"] > 200)
    stop.set()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_a_node_that_is_held_is_noticed_by_its_ticks(cluster, otp):
    beam = cluster.beam("wallet", otp=otp, arguments=["-kernel", "net_ticktime", "2"])
    block = beam.eval("fun() -> register(held, self()), timer:sleep(infinity) end")
    options = {"cookie": "monster", "epmd_port": cluster.epmd_port, "net_ticktime": 2}
    with erlmesh.connect(beam.name, **options) as node, ThreadPoolExecutor() as threads:
        call = threads.submit(node.rpc, "erlang", "apply", [block, []], timeout=HANG)
        wait_until(lambda: beam.eval("whereis(held)") is not Atom("undefined") or call.done())

        beam.stop()

        with pytest.raises(NoConnection, match="net_tick_timeout"):
            call.result()
        beam.cont()
        wait_until(lambda: node.ping(timeout=HANG))


def test_an_idle_node_stays_connected_with_short_ticks(cluster, otp):
    beam = cluster.beam("wallet", otp=otp, arguments=["-kernel", "net_ticktime", "4"])
    with erlmesh.connect(beam.name, cookie="monster", epmd_port=cluster.epmd_port) as node:
        assert node.ping()
        name = Atom(node.name)
        beam.eval(
            "register(losses, spawn(fun() -> monitor_node(Node, true), "
            "receive {nodedown, Node} -> receive after infinity -> ok end end end))",
            Node=name,
        )
        ticks = wait_until(lambda: node._session()._links[beam.atom].channel.statistics().ticks_in >= 8, timeout=60)

        assert ticks
        assert beam.eval("element(2, process_info(whereis(losses), message_queue_len))") == 0
        assert name in beam.eval("nodes(hidden)")


# Forks

WORKERS = """
import multiprocessing, sys, erlmesh
from erlmesh import Atom
node = erlmesh.connect(sys.argv[1], cookie="monster")
def work(number):
    return number, node.call("server", (Atom("echo"), number)), node.name
if __name__ == "__main__":
    own = node.call("server", (Atom("echo"), 0)), node.name
    with multiprocessing.get_context("fork").Pool(4) as pool:
        results = pool.map(work, range(40), chunksize=1)
    assert all(number == reply for number, reply, _ in results)
    names = {name for _, _, name in results}
    assert own[1] not in names
    assert node.call("server", (Atom("echo"), 1)) == 1 and node.name == own[1]
    print("names:", len(names))
"""


def test_workers_of_multiprocessing_connect_for_themselves(cluster, beam, tmp_path):
    program = tmp_path / "workers.py"
    program.write_text(WORKERS)

    done = subprocess.run(
        [sys.executable, "-W", "ignore", program, beam.name],
        env={**os.environ, "ERL_EPMD_PORT": str(cluster.epmd_port)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("names: ")
    wait_until(lambda: beam.eval("nodes(hidden)") == [])


GUNICORN = """
import erlmesh
from erlmesh import Atom
node = erlmesh.connect("wallet@127.0.0.1", cookie="monster")
node.ping()  # it is connected before the fork
def app(environ, start_response):
    number = int(environ["QUERY_STRING"])
    reply = node.call("server", (Atom("echo"), number), timeout=40)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Connection", "close")])
    return [f"{reply} {node.name}".encode()]
"""


@pytest.mark.parametrize(
    "options",
    [["-k", "sync"], ["-k", "gthread", "--threads", "4"], ["-k", "sync", "--preload"],
     ["-k", "gthread", "--threads", "4", "--preload"]],
    ids=["sync", "gthread", "sync-preload", "gthread-preload"],
)  # fmt: skip
def test_gunicorn(cluster, beam, tmp_path, free_port, options):
    import_or_skip("gunicorn")
    import http.client
    from concurrent.futures import ThreadPoolExecutor

    (tmp_path / "wsgi_app.py").write_text(GUNICORN)
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-w", "3", *options, "-b", f"127.0.0.1:{free_port}",
         "--log-level", "error", "wsgi_app:app"],
        env={**os.environ, "ERL_EPMD_PORT": str(cluster.epmd_port)},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip

    def get(number):
        connection = http.client.HTTPConnection("127.0.0.1", free_port, timeout=HANG)
        try:
            connection.request("GET", f"/?{number}")
            reply, name = connection.getresponse().read().decode().split()
            return int(reply), name
        except ConnectionError:
            return None
        finally:
            connection.close()

    try:
        wait_until(lambda: get(0) is not None, timeout=HANG)
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(get, range(200)))
    finally:
        server.send_signal(signal.SIGTERM)
        errors = server.communicate(timeout=HANG)[1]

    assert [reply for reply, _ in answers] == list(range(200))
    assert {name.startswith("python-") for _, name in answers} == {True}
    assert "Traceback" not in errors
    assert server.returncode == 0


# TLS


def test_tls(cluster, otp, tmp_path):
    from certificates import Authority
    from erlmesh import TlsConfig
    from erlmesh.certs.optfile import optfile_text

    authority = Authority(tmp_path / "ca")
    cert, key = authority.write("wallet", "127.0.0.1")
    optfile = tmp_path / "ssl_dist.conf"
    optfile.write_text(optfile_text(str(cert), str(key), str(authority.ca)))
    beam = cluster.beam("wallet", otp=otp, arguments=["-proto_dist", "inet_tls", "-ssl_dist_optfile", str(optfile)])
    beam.eval(SERVER)
    own_cert, own_key = authority.write("python", "127.0.0.1")
    trusted = TlsConfig(cert=own_cert, key=own_key, ca=authority.ca)
    foreign = TlsConfig(cert=own_cert, key=own_key, ca=Authority(tmp_path / "foreign", "another CA").ca)
    options = {"cookie": "monster", "epmd_port": cluster.epmd_port}

    with erlmesh.connect(beam.name, tls=trusted, **options) as node:
        assert node.call("server", (Atom("echo"), 1)) == 1
        large = os.urandom(8 << 20)
        assert node.call("server", (Atom("echo"), large), timeout=60) == large
        threads = [
            threading.Thread(target=lambda: [node.call("server", (Atom("echo"), i)) for i in range(50)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert node.rpc("lists", "sum", [[1, 2, 3]]) == 6
    with (
        pytest.raises(erlmesh.HandshakeRefused, match="certificate"),
        erlmesh.connect(beam.name, tls=foreign, **options),
    ):
        pass
    with pytest.raises(erlmesh.ConnectError), erlmesh.connect(beam.name, **options):
        pass
