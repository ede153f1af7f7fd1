"""The synchronous node, with a peer that the test scripts."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from scripted_peer import COOKIE, ScriptedPeer, call_in, reply

import erlmesh
from erlmesh import (
    Atom,
    CalleeExited,
    CallTimeout,
    ConnectError,
    EncodeError,
    HandshakeRefused,
    NoConnection,
    NodeNotAlive,
    NoProcess,
)
from erlmesh.proto.control import Demonitor, Down, ExitSend, Link, Monitor, Send, SendName
from erlmesh.proto.handshake import Status
from polling import wait_until


@pytest.fixture
def peer():
    with ScriptedPeer() as peer:
        yield peer


@pytest.fixture
def connect(peer):
    nodes = []

    def connect(**options):
        node = erlmesh.connect(peer.name, **{"cookie": COOKIE, "port": peer.port} | options)
        nodes.append(node)
        return node

    yield connect
    for node in nodes:
        node.close()


@pytest.fixture
def node(connect):
    return connect()


def signals_of(peer, kind):
    return [each for each in peer.connections[-1].signals if isinstance(each, kind)]


# Calls


def test_a_call_returns_the_reply(node):
    assert node.call("server", (Atom("add"), 1)) == (Atom("add"), 1)


@pytest.mark.parametrize("to", [ScriptedPeer.pid, Atom("server"), ("server", ScriptedPeer.name)])
def test_a_call_goes_to_a_pid_a_name_or_a_name_on_a_node(node, to):
    assert node.call(to, 7) == 7


def test_a_reply_to_the_pid_of_the_caller_is_found_too(peer, node):
    """A server of OTP 23, or one that is no gen_server, does not know aliases."""

    def answer(connection, each):
        if found := call_in(each):
            (pid, tag), request = found
            connection.send(Send(peer.pid, pid, (tag, request)))

    peer.on_signal = answer

    assert node.call("server", 1) == 1


def test_a_call_monitors_the_server_and_ends_the_monitor(peer, node):
    node.call("server", 1)
    node.call("server", 2)  # the signal that ends the first monitor goes with it

    first, second = signals_of(peer, Monitor)
    wait_until(lambda: signals_of(peer, Demonitor))
    assert signals_of(peer, Demonitor)[0].ref == first.ref != second.ref


def test_without_another_call_the_monitor_ends_soon(peer, node):
    node.call("server", 1)

    wait_until(lambda: signals_of(peer, Demonitor))


def test_a_name_without_a_process_raises_no_process(node):
    with pytest.raises(NoProcess, match="nobody"):
        node.call("nobody", 1)


def test_a_server_that_exits_raises_its_reason(peer, node):
    def exit_at_call(connection, each):
        if isinstance(each, Monitor):
            connection.send(Down(each.target, each.sender, each.ref, (Atom("crash"), 1)))

    peer.on_signal = exit_at_call

    with pytest.raises(CalleeExited) as caught:
        node.call("server", 1)
    assert caught.value.reason == (Atom("crash"), 1)


def test_a_request_that_is_not_a_term_raises_and_leaves_the_connection(peer, node):
    node.call("server", 1)

    with pytest.raises(EncodeError):
        node.call("server", object())
    assert node.call("server", 2) == 2
    assert len(peer.connections) == 1


def test_a_late_reply_reaches_no_later_call(peer, node):
    late = []

    def answer_late(connection, each):
        if found := call_in(each):
            caller, request = found
            if request == b"late":
                late.append(caller)
            else:
                connection.send(reply(late[0], "late"), reply(caller, request))

    node.call("server", 0)
    peer.on_signal = answer_late
    with pytest.raises(CallTimeout):
        node.call("server", "late", timeout=0.05)

    assert node.call("server", b"next") == b"next"
    assert node._session().router.pending == {}


def test_a_call_without_a_reply_leaves_nothing_behind(peer, node):
    node.call("server", 0)
    peer.on_signal = lambda _connection, _signal: None

    with pytest.raises(CallTimeout):
        node.call("server", 1, timeout=0.05)

    assert node._session().router.pending == {}


def test_an_alias_cannot_be_called(node):
    with pytest.raises(TypeError, match="alias"):
        node.call(erlmesh.Ref(Atom("a@b"), 1, (1, 2, 3)), 1)


def test_an_own_process_cannot_be_called(node):
    pid = node.pid

    with pytest.raises(ValueError, match="this node itself"):
        node.call(pid, 1)


# Threads


@pytest.mark.parametrize("threads", [2, 16])
def test_each_thread_gets_its_own_replies(peer, node, threads):
    """The peer answers some calls at once, and others together in the opposite order."""
    held = []

    def answer(connection, each):
        if found := call_in(each):
            held.append(found)
            if found[1] % 3 != 0 or len(held) == threads:
                connection.send(*(reply(caller, request) for caller, request in reversed(held)))
                held.clear()

    peer.on_signal = answer
    wrong = []

    def work(number):
        for call in range(150):
            request = number * 1000 + call
            if node.call("server", request, timeout=30) != request:
                wrong.append(request)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):  # a call that gets its reply at once, and with it all others
        node.call("server", 1)

    assert wrong == []
    assert len(peer.connections) == 1
    reader = node._session().reader
    assert reader._followers == {}


def test_a_reader_that_gives_up_passes_its_role_on(peer, node):
    """The first thread reads for the second one. When its time is up, the second one gets its reply all the same."""
    callers = {}

    def hold(_connection, each):
        if found := call_in(each):
            callers[found[1]] = found[0]

    node.call("server", 0)
    peer.on_signal = hold
    results = []

    def second():
        results.append(node.call("server", 2, timeout=20))

    follower = threading.Thread(target=second)

    def start_follower():
        wait_until(lambda: 1 in callers)
        follower.start()

    starter = threading.Thread(target=start_follower)
    starter.start()
    with pytest.raises(CallTimeout):
        node.call("server", 1, timeout=0.5)
    wait_until(lambda: 2 in callers)
    peer.connections[0].send(reply(callers[2], 2))
    follower.join(20)
    starter.join()

    assert results == [2]


# Without calls


def test_ticks_are_sent_while_no_thread_is_in_a_call(peer, connect):
    node = connect(net_ticktime=0.4)
    node.call("server", 1)

    wait_until(lambda: peer.connections[0].ticks_in >= 6)
    assert node.call("server", 2) == 2
    assert len(peer.connections) == 1


def test_a_peer_with_short_ticks_gets_answers(peer, node):
    peer.net_ticktime = 0.4
    node.call("server", 1)

    wait_until(lambda: peer.connections[0].ticks_in >= 6)
    assert not peer.connections[0].lost


def test_a_lost_connection_is_noticed_and_made_again(peer, node):
    node.call("server", 1)

    peer.lose_all()

    wait_until(lambda: len(peer.alive) == 1 and len(peer.connections) == 2)
    assert node.call("server", 2) == 2


def test_a_held_peer_is_lost_after_the_tick_time(peer, connect):
    node = connect(net_ticktime=0.4)
    node.call("server", 1)
    peer.on_signal = lambda _connection, _signal: None
    peer.connections[0].reading.clear()
    peer.connections[0].net_ticktime = 60

    with pytest.raises(NoConnection, match="net_tick_timeout"):
        node.call("server", 2, timeout=30)


def test_a_call_during_a_loss_raises_at_once(peer, node):
    node.call("server", 1)
    peer.stop_listening()
    peer.lose_all()
    wait_until(lambda: peer.connections[0].lost)
    with contextlib.suppress(NoConnection):
        while True:
            node.call("server", 2, timeout=30)

    for _ in range(20):
        with pytest.raises(NoConnection):
            node.call("server", 2, timeout=30)
    peer.listen_again()
    wait_until(lambda: is_answered(node))  # the pause before the next attempt may not be over


def is_answered(node):
    try:
        return node.call("server", 3) == 3
    except NoConnection:
        return False


def test_calls_do_not_dial_again_and_again(peer, node):
    attempts = []

    def refuse(name):
        attempts.append(name)
        return Status.NOT_ALLOWED

    peer.status = refuse

    for _ in range(200):
        with pytest.raises(NoConnection, match="refused"):
            node.call("server", 1, timeout=30)

    assert len(attempts) < 50


def test_a_call_that_waits_ends_with_the_connection(peer, node):
    peer.on_signal = lambda connection, each: connection.close() if call_in(each) else None

    with pytest.raises(NoConnection, match="lost"):
        node.call("server", 1, timeout=30)


# Connecting


def test_the_wrong_cookie_is_named(connect):
    node = connect(cookie="other")

    with pytest.raises(HandshakeRefused, match="cookies"), node:
        pass
    with pytest.raises(NoConnection, match="cookies"):
        node.call("server", 1)


def test_no_listener_raises_connect_error_in_with(peer, node):
    peer.stop_listening()

    with pytest.raises(ConnectError), node:
        pass


def test_a_handshake_without_an_answer_ends_with_the_time_of_the_call(peer, node):
    blocked = threading.Event()
    peer.status = lambda _name: blocked.wait(20) and Status.OK

    with pytest.raises(CallTimeout):
        node.call("server", 1, timeout=0.1)
    blocked.set()


def test_a_name_that_another_program_uses_is_left_to_it(peer, node):
    """The peer answers ``alive``: another client has a connection under the name."""
    names = []

    def only_others(name):
        names.append(name)
        return Status.ALIVE if len(names) == 1 else Status.OK

    peer.status = only_others

    assert node.call("server", 1) == 1
    assert names[0] != names[1] == node.name


def test_our_own_lost_connection_is_replaced(peer, node):
    node.call("server", 1)
    name = node.name
    peer.status = Status.ALIVE
    peer.lose_all()

    wait_until(lambda: len(peer.connections) == 2)
    assert peer.connections[1].name == name


def test_two_nodes_of_a_program_have_two_names(connect):
    first, second = connect(), connect()

    assert first.call("server", 1) == second.call("server", 1)
    assert first.name != second.name


def test_the_names_of_nodes_that_are_closed_are_used_again(connect):
    """A BEAM never frees the atom of a name."""
    names = set()
    for _ in range(5):
        with connect() as node:
            names.add(node.name)

    assert len(names) == 1


def test_a_node_can_have_a_name_of_its_own(peer, connect):
    assert connect(name="web@127.0.0.1").name == "web@127.0.0.1"
    assert connect(name="web").name.startswith(f"web-{os.getpid() % 10_000}")


@pytest.mark.parametrize(
    ("arguments", "text"), [({"peer": "wallet"}, "node name"), ({"peer": "a@b", "net_ticktime": 0}, "net_ticktime")]
)
def test_malformed_arguments_raise(arguments, text):
    with pytest.raises(ValueError, match=text):
        erlmesh.connect(**{"cookie": COOKIE} | arguments)


def test_after_close_nothing_works(node):
    node.call("server", 1)
    node.close()

    with pytest.raises(NodeNotAlive):
        node.call("server", 1)


def test_close_ends_a_call_that_waits(peer, node):
    arrived = threading.Event()
    peer.on_signal = lambda _connection, each: arrived.set() if call_in(each) else None
    errors = []

    def call():
        try:
            node.call("server", 1, timeout=30)
        except Exception as error:
            errors.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    arrived.wait(20)
    node.close()
    caller.join(20)

    assert [type(error) for error in errors] == [NodeNotAlive]


# Signals


@pytest.mark.parametrize("follows", [False, True], ids=["reader", "follower"])
def test_ctrl_c_ends_a_call_and_leaves_the_connection(peer, node, follows):
    assert node.call("server", 1) == 1
    main = threading.get_ident()
    answer, held, other = peer.on_signal, [], []

    def interrupt(connection, each):
        if found := call_in(each):
            if found[1] == b"other":
                held.append(found)
            elif found[1] == b"interrupted":
                signal.pthread_kill(main, signal.SIGINT)
            else:
                answer(connection, each)

    peer.on_signal = interrupt
    thread = threading.Thread(target=lambda: other.append(node.call("server", "other", timeout=30)))
    if follows:
        thread.start()
        wait_until(lambda: held)
    with pytest.raises(KeyboardInterrupt):
        node.call("server", "interrupted", timeout=30)

    assert node.call("server", 2) == 2
    if follows:
        peer.connections[0].send(reply(held[0][0], 3))
        thread.join(20)
        assert other == [3]
    assert len(peer.connections) == 1


def test_ctrl_c_ends_a_receive(peer, node):
    pid = node.pid
    timer = threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        node.receive(timeout=30)
    timer.join()

    peer.connections[0].send(Send(peer.pid, pid, 1))
    assert node.receive(timeout=20) == 1


# Messages and processes


def test_a_message_arrives(peer, node):
    peer.connections or node.call("server", 1)
    peer.connections[0].send(Send(peer.pid, node.pid, Atom("first")), Send(peer.pid, node.pid, Atom("second")))

    assert node.receive(lambda message: message is Atom("second"), timeout=20) is Atom("second")
    assert node.receive(timeout=20) is Atom("first")
    with pytest.raises(TimeoutError):
        node.receive(timeout=0.01)


def test_a_message_is_sent(peer, node):
    node.send("sink", 1)
    node.cast(("sink", peer.name), 2)

    wait_until(lambda: len(signals_of(peer, SendName)) == 2)
    first, second = signals_of(peer, SendName)
    assert (first.message, second.message) == (1, (Atom("$gen_cast"), 2))
    assert first.sender == node.pid


def test_a_process_has_a_mailbox_of_its_own(peer, node):
    with node.process("inbox") as process:
        peer.connections[0].send(SendName(peer.pid, Atom("inbox"), 1), Send(peer.pid, process.pid, 2))

        assert [process.receive(timeout=20), process.receive(timeout=20)] == [1, 2]
        with pytest.raises(ValueError, match="inbox"):
            node.process("inbox")
    assert not process.alive
    with pytest.raises(erlmesh.Exit):
        process.receive(timeout=1)


def test_a_process_monitors_another(peer, node):
    with node.process() as process:
        ref = process.monitor("server")
        wait_until(lambda: signals_of(peer, Monitor))
        peer.connections[0].send(Down(Atom("server"), process.pid, ref, Atom("shutdown")))

        assert process.receive(timeout=20) == (
            Atom("DOWN"), ref, Atom("process"), (Atom("server"), Atom(peer.name)), Atom("shutdown")
        )  # fmt: skip


def test_a_lost_node_ends_monitors_and_links(peer, node):
    with node.process() as process:
        ref = process.monitor(peer.pid)
        process.link(peer.pid)
        wait_until(lambda: signals_of(peer, Link))
        peer.lose_all()

        first, second = process.receive(timeout=20), process.receive(timeout=20)

        noconnection = Atom("noconnection")
        assert {first, second} == {
            (Atom("DOWN"), ref, Atom("process"), peer.pid, noconnection),
            (Atom("EXIT"), peer.pid, noconnection),
        }


def test_kill_ends_a_process_and_its_monitors_get_it(peer, node):
    with node.process() as process:
        ref = erlmesh.Ref(Atom(peer.name), 7, (1, 2, 3))
        peer.connections[0].send(Monitor(peer.pid, process.pid, ref), ExitSend(peer.pid, process.pid, Atom("kill")))

        with pytest.raises(erlmesh.Exit):
            process.receive(timeout=20)
        wait_until(lambda: signals_of(peer, Down))
        assert signals_of(peer, Down) == [Down(process.pid, peer.pid, ref, Atom("killed"))]


def test_a_busy_connection_makes_senders_wait(peer, node):
    node.call("server", 1)
    peer.connections[0].reading.clear()

    def fill():
        for _ in range(100):
            node.send("sink", b"x" * (1 << 20), timeout=0.2)

    with pytest.raises(CallTimeout, match="does not read"):
        fill()
    queued = node._session()._links[Atom(peer.name)].queued
    peer.connections[0].reading.set()

    assert queued < 3 << 20
    assert node.call("server", 2, timeout=60) == 2


# Forks


def in_child(function):
    """What ``function()`` returns in a forked child, as text."""
    ours, theirs = os.pipe()
    with contextlib.suppress(DeprecationWarning):
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(theirs, repr(function()).encode())
            status = 0
        except BaseException as error:
            os.write(theirs, repr(error).encode())
        finally:
            os._exit(status)
    os.close(theirs)
    with open(ours, "rb") as result:  # noqa: PTH123 - a descriptor
        text = result.read().decode()
    os.waitpid(child, 0)
    return text


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_connects_for_itself(peer, node):
    node.call("server", 1)
    name = node.name

    text = in_child(lambda: (node.call("server", 2, timeout=20), node.name != name))

    assert text == "(2, True)"
    assert not peer.connections[0].lost
    assert node.call("server", 3) == 3
    assert len(peer.connections) == 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_threads_call_leaves_both_programs_usable(peer, node):
    stop, errors = threading.Event(), []

    def work():
        while not stop.is_set():
            try:
                node.call("server", 1, timeout=20)
            except Exception as error:
                errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    texts = [in_child(lambda: node.call("server", 2, timeout=20)) for _ in range(5)]
    stop.set()
    for worker in workers:
        worker.join()

    assert texts == ["2"] * 5
    assert errors == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_of_the_parent_is_refused_in_the_child(node):
    with node.process() as process:
        text = in_child(lambda: process.receive(timeout=1))

        assert text.startswith("NodeNotAlive")
        assert process.alive


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_is_found_without_the_hook_of_python(peer, node, monkeypatch):
    """uWSGI may fork in C and not run Python's hooks."""
    node.call("server", 1)
    monkeypatch.setattr(erlmesh.sync.node.SyncNode, "_after_fork_hook", lambda self: None)

    assert in_child(lambda: node.call("server", 2, timeout=20)) == "2"
    assert node.call("server", 3) == 3


def test_a_child_does_not_end_the_connection_of_its_parent(peer, node):
    """The child closes its copy of the descriptor only. A shutdown would reach the peer."""
    node.call("server", 1)
    session = node._session()
    copy = socket.socket(fileno=os.dup(session._links[Atom(peer.name)].fd))

    session.abandon()
    session.reader._background.join(20)
    peer.connections[0].send(Send(peer.pid, session.caller, 1))

    copy.settimeout(20)
    assert copy.recv(1) != b""
    copy.close()


# The end of the program

PROGRAM = """
import erlmesh, threading
node = erlmesh.connect("peer@127.0.0.1", cookie="monster", port={port})
print(node.call("server", 1))
{more}
"""


@pytest.mark.parametrize("more", ["", "node.pid", "raise SystemExit(0)"])
def test_a_program_ends_without_close(peer, more):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(port=peer.port, more=more)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    wait_until(lambda: peer.connections[0].lost)
