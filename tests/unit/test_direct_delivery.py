"""The native wire applies common signals itself. All that it does must look as if the router had done it."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from router_harness import RouterHarness

from erlmesh import native
from erlmesh.errors import Exit
from erlmesh.proto.channel import Channel
from erlmesh.proto.control import Demonitor, Down, ExitSend, Link, Monitor, Send, SendAlias, SendName
from erlmesh.proto.flags import OFFERED
from erlmesh.runtime.wakeups import Wait
from erlmesh.terms import Atom, ImproperList, Pid, Ref
from erlmesh.testing.loop import run_coroutine as run

pytestmark = pytest.mark.skipif(native.module is None, reason=native.description)

A, B = Atom("a@h"), Atom("b@h")
X, REF = Pid(B, 64, 0, 5), Ref(B, 5, (1, 2, 3))
BOOM = Atom("boom")


class Node(RouterHarness):
    """The router of ``a@h`` behind a channel with the node ``b@h``. With ``direct``, its wire delivers messages."""

    def __init__(self, direct=True):
        super().__init__()
        self.connect()
        self.remote = Channel("a@h", "b@h", OFFERED, now=0.0)
        self.channel = Channel("b@h", "a@h", OFFERED, now=0.0)
        if direct:
            self.channel.deliver_to(self.router.state.direct)

    def read(self, *signals):
        """Receive the signals in one read. Return those that were not delivered directly."""
        for signal in signals:
            self.remote.send(signal)
        rest = self.channel.receive_data(self.remote.data_to_send(0.0), 0.0)
        if rest:
            self.receive(*rest)
        return rest


def content(process):
    return list(process._mailbox)


def test_messages_to_pids_and_names_become_no_signals():
    node = Node()
    one, other = node.process(), node.process("other")

    rest = node.read(Send(X, one.pid, 1), SendName(X, Atom("other"), 2), Send(X, one.pid, [b"3" * 200_000]))

    assert rest == []
    assert (content(one), content(other)) == ([1, [b"3" * 200_000]], [2])
    assert node.channel.statistics().signals_in == 3


def test_what_follows_another_signal_waits_for_the_router():
    node = Node()
    process = node.process()
    after = [Link(X, process.pid), Send(X, process.pid, 2)]

    assert node.read(Send(X, process.pid, 1), *after) == after
    assert content(process) == [1, 2]
    assert node.channel.statistics().signals_in == 3
    assert node.read(Send(X, process.pid, 3)) == []


def test_an_exit_signal_is_not_overtaken():
    node = Node()
    process = node.process()

    node.read(Send(X, process.pid, 1), ExitSend(X, process.pid, BOOM), Send(X, process.pid, 2))

    assert (process.exit_reason, content(process)) == (BOOM, [1])


@pytest.mark.parametrize("change", [{"creation": 2}, {"node": B}, {"id": 9999}, {"serial": 1}])
def test_a_pid_that_matches_no_process_delivers_nothing(change):
    node = Node()
    pid = node.process().pid
    parts = {"node": pid.node, "id": pid.id, "serial": pid.serial, "creation": pid.creation, **change}

    assert len(node.read(Send(X, Pid(**parts), 1))) == 1
    assert [content(process) for process in node.router.registry.processes.values()] == [[]]


def test_a_change_of_a_process_has_an_effect_on_the_next_message():
    async def main():
        node = Node()
        process = node.process("name")
        message = Send(X, process.pid, 1)
        assert node.read(message) == []

        process._pending_calls[REF] = Wait(node.router.wakeups)
        assert node.read(message) == [message]
        process._pending_calls.clear()
        assert node.read(message) == []
        process._handler = print
        assert node.read(message) == [message]
        process._handler = None
        node.router.registry.unregister_name(Atom("name"))
        assert len(node.read(SendName(X, Atom("name"), 1))) == 1
        node.router.termination.terminate(process, BOOM)
        assert node.read(message) == [message]

    run(main())


def test_an_answer_of_otp_23_ends_the_call():
    async def main():
        node = Node()
        process = node.process()
        answer = process._pending_calls[REF] = Wait(node.router.wakeups)

        node.read(Send(X, process.pid, (ImproperList((Atom("alias"),), REF), 7)))

        assert await answer == 7
        assert content(process) == []

    run(main())


def monitors_of(node):
    """All tables about monitored processes, in order."""
    return [
        {key: list(value.items()) if isinstance(value, dict) else value for key, value in table.items()}
        for table in node.router.monitors.target_tables()
    ]


def test_monitors_of_living_processes_become_no_signals():
    node = Node()
    process = node.process("name")
    other = Ref(B, 5, (2, 0, 0))

    assert node.read(Monitor(X, process.pid, REF), Monitor(X, Atom("name"), other)) == []

    assert node.router.monitors.monitored_by(process.pid) == [X, X]
    assert node.channel.statistics().signals_in == 2
    node.router.termination.terminate(process, BOOM)
    assert node.router.peers[B].sent == [Down(process.pid, X, REF, BOOM), Down(Atom("name"), X, other, BOOM)]
    assert monitors_of(node) == [{}, {}, {}]


def test_a_removed_monitor_leaves_nothing_behind():
    node = Node()
    process = node.process()

    assert node.read(Monitor(X, process.pid, REF), Demonitor(X, process.pid, REF)) == []

    assert monitors_of(node) == [{}, {}, {}]


def test_only_its_origin_removes_a_monitor():
    node = Node()
    process = node.process()
    node.read(Monitor(X, process.pid, REF))

    assert (
        node.read(Demonitor(Pid(B, 65, 0, 5), process.pid, REF), Demonitor(X, process.pid, Ref(B, 5, (9, 9, 9)))) == []
    )

    assert node.router.monitors.monitored_by(process.pid) == [X]


def test_a_monitor_of_no_process_is_answered_by_the_router():
    node = Node()
    signals = [Monitor(X, Atom("nobody"), REF), Monitor(X, Pid(A, 9999, 0, 1), Ref(B, 5, (2, 0, 0)))]

    assert node.read(*signals) == signals

    assert [down.reason for down in node.router.peers[B].sent] == [Atom("noproc")] * 2


def test_a_reply_to_an_alias_ends_the_call_that_waits():
    async def main():
        node = Node()
        process = node.process()
        alias = node.router.registry.alias(process)
        answer = process._pending_calls[alias] = Wait(node.router.wakeups)

        assert node.read(SendAlias(X, alias, (ImproperList((Atom("alias"),), alias), 7))) == []

        assert await answer == 7
        assert content(process) == []

    run(main())


def test_a_message_to_an_alias_without_a_call_is_delivered_or_dropped():
    node = Node()
    process = node.process()
    alias = node.router.registry.alias(process)

    assert node.read(SendAlias(X, REF, 1)) == []
    assert node.read(SendAlias(X, alias, 2)) == [SendAlias(X, alias, 2)]

    assert content(process) == [2]


def test_messages_before_an_invalid_frame_are_delivered():
    node = Node()
    process = node.process()
    node.remote.send(Send(X, process.pid, 1))

    (lost,) = node.channel.receive_data(node.remote.data_to_send(0.0) + b"\0\0\0\x01x", 0.0)

    assert lost.reason == "killed"
    assert content(process) == [1]
    assert node.channel.statistics().signals_in == 1


def test_a_node_and_its_wires_are_freed_together():
    def objects():
        gc.collect()
        return sum(type(found) is native.module.DirectDelivery for found in gc.get_objects())

    before = objects()
    node = Node()
    node.router.peers[B].channel = node.channel  # as in a running node: the tables lead to the wire, and back
    node.process()
    assert objects() == before + 1
    del node

    assert objects() == before


NUMBERS = st.integers(0, 3)
SIGNALS = [
    *("pid", "name", "alias", "exit"),
    *("monitor", "monitor name", "monitor again", "demonitor", "demonitor other"),
]
ACTIONS = st.one_of(
    st.tuples(st.sampled_from(SIGNALS), NUMBERS),
    st.tuples(st.just("read"), st.just(0)),
    st.tuples(st.sampled_from(["handler", "call", "call by alias", "no call", "unregister", "unalias"]), NUMBERS),
)


class History:
    """Runs the same actions on a node, with four processes."""

    def __init__(self, direct):
        self.node = Node(direct)
        self.processes = [self.node.process(f"p{number}") for number in range(4)]
        self.aliases = [self.node.router.registry.alias(process) for process in self.processes]
        self.handled = [[] for _ in range(4)]
        self.count = 0
        self.refs = [REF]
        self.answers = []

    def new_ref(self):
        self.refs.append(Ref(B, 5, (self.count, 0, 0)))
        return self.refs[-1]

    def signal(self, kind, number):
        self.count += 1
        pid = self.processes[number].pid
        return {
            "pid": lambda: Send(X, pid, self.count),
            "name": lambda: SendName(X, Atom(f"p{number}"), self.count),
            "alias": lambda: SendAlias(X, self.aliases[number], self.count),
            "monitor": lambda: Monitor(X, pid, self.new_ref()),
            "monitor name": lambda: Monitor(X, Atom(f"p{number}"), self.new_ref()),
            "monitor again": lambda: Monitor(X, pid, self.refs[number % len(self.refs)]),
            "demonitor": lambda: Demonitor(X, pid, self.refs[-1 - number % len(self.refs)]),
            "demonitor other": lambda: Demonitor(Pid(B, 65, 0, 5), pid, self.refs[-1]),
            "exit": lambda: ExitSend(X, pid, BOOM),
        }[kind]()

    def change(self, kind, number):
        process = self.processes[number]
        if kind == "handler":
            process._handler = self.handled[number].append if process.alive else None
        elif kind == "call":
            process._pending_calls[REF] = Wait(self.node.router.wakeups)
        elif kind == "call by alias":
            answer = process._pending_calls[self.aliases[number]] = Wait(self.node.router.wakeups)
            self.answers.append(answer)
        elif kind == "unalias":
            self.node.router.registry.unalias(process, self.aliases[number])
        elif kind == "no call":
            process._pending_calls.clear()
        else:
            self.node.router.registry.unregister_name(Atom(f"p{number}"))

    def play(self, actions):
        read = []
        for kind, number in actions:
            if kind in SIGNALS:
                read.append(self.signal(kind, number))
                continue
            self.node.read(*read)
            read = []
            if kind != "read":
                self.change(kind, number)
        self.node.read(*read)
        return (
            [(process.alive, content(process)) for process in self.processes],
            self.handled,
            self.node.router.peers[B].sent,
            monitors_of(self.node),
            [result_of(answer) for answer in self.answers],
            self.node.channel.statistics(),
        )


def result_of(wait):
    try:
        return wait.result() if wait.done() else "waits"
    except Exit as error:
        return error.reason


@given(st.lists(ACTIONS, max_size=30))
def test_every_history_is_the_same_as_with_the_router_alone(actions):
    async def main():
        assert History(direct=True).play(actions) == History(direct=False).play(actions)

    run(main())
