"""Which connection wins if both nodes dial: single decisions, and every order of events."""

import copy
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlmesh.core.connection_table import ConnectionTable, Dial
from erlmesh.proto.handshake import Status

SMALL, GREAT = "a@h", "b@h"


@pytest.fixture
def small():
    return ConnectionTable(SMALL)


@pytest.fixture
def great():
    return ConnectionTable(GREAT)


def test_a_new_table_is_empty(small):
    assert small.established_connection(GREAT) is None
    assert not small.is_pending(GREAT)
    assert small.established_connections() == {}


def test_an_outgoing_connection_is_pending_then_established(small):
    assert small.dial(GREAT, "out") is Dial.NOW
    assert small.is_pending(GREAT)
    assert small.established_connection(GREAT) is None

    assert small.established(GREAT, "out") == (True, None, [])
    assert small.established_connection(GREAT) == "out"
    assert not small.is_pending(GREAT)
    assert small.established_connections() == {GREAT: "out"}


def test_an_incoming_connection_is_established_when_it_has_proved_the_cookie(small):
    assert small.incoming(GREAT, "in") is Status.OK
    assert not small.is_pending(GREAT), "nothing waits for who only says a name"

    assert small.established(GREAT, "in") == (True, None, [])
    assert small.established_connection(GREAT) == "in"


@pytest.mark.parametrize("going_on", ["dialling", "deferred", "expecting", "up"])
def test_a_node_does_not_dial_while_an_attempt_is_under_way_or_connected(small, going_on):
    if going_on == "deferred":
        small.incoming(GREAT, "in")
    small.dial(GREAT, "first")
    if going_on == "expecting":
        small.nok_received(GREAT, "first")
    if going_on == "up":
        small.established(GREAT, "first")

    assert small.dial(GREAT, "second") is Dial.NOT


def test_an_incoming_connection_with_our_own_name_is_refused(small):
    assert small.incoming(SMALL, "in") is Status.NOK
    assert not small.is_pending(SMALL)


def test_the_greater_name_refuses_an_incoming_connection_while_it_dials(great):
    great.dial(SMALL, "out")

    assert great.incoming(SMALL, "in") is Status.NOK
    assert great.established(SMALL, "in") == (False, None, [])
    assert great.established(SMALL, "out") == (True, None, [])


def test_the_smaller_name_keeps_its_attempt_until_the_incoming_connection_has_proved_the_cookie(small):
    small.dial(GREAT, "out")

    assert small.incoming(GREAT, "in") is Status.OK_SIMULTANEOUS
    assert small.is_pending(GREAT)
    assert small.established(GREAT, "in") == (True, None, ["out"])
    assert small.established(GREAT, "out") == (False, None, [])


def test_our_own_attempt_is_established_although_somebody_says_the_name(small):
    small.dial(GREAT, "out")
    small.incoming(GREAT, "liar")

    assert small.established(GREAT, "out") == (True, None, ["liar"])
    assert small.established(GREAT, "liar") == (False, None, [])


@pytest.mark.parametrize("name", [SMALL, GREAT])
def test_a_name_that_somebody_says_does_not_keep_the_real_node_out(name):
    table = ConnectionTable(SMALL if name == GREAT else GREAT)
    table.incoming(name, "liar")

    assert table.incoming(name, "real") is Status.OK
    assert table.incoming(name, "later liar") is Status.OK
    assert table.established(name, "real") == (True, None, ["liar"])
    table.handshake_failed(name, "later liar")
    assert table.established_connection(name) == "real"


@pytest.mark.parametrize("name", [SMALL, GREAT])
def test_a_name_that_somebody_says_does_not_keep_us_from_dialling_it(name):
    table = ConnectionTable(SMALL if name == GREAT else GREAT)
    table.incoming(name, "liar")
    assert table.dial(name, "out") is Dial.LATER
    assert table.is_pending(name)

    assert table.start_deferred(name, "out")
    assert not table.start_deferred(name, "out")

    assert table.established(name, "out") == (True, None, ["liar"])


def test_a_deferred_attempt_starts_when_the_last_candidate_has_failed(small):
    small.incoming(GREAT, "first")
    small.incoming(GREAT, "second")
    small.dial(GREAT, "out")

    assert small.handshake_failed(GREAT, "first") is None
    assert small.handshake_failed(GREAT, "second") == "out"

    assert small.established(GREAT, "out") == (True, None, [])


def test_a_deferred_attempt_is_not_needed_when_a_candidate_is_established(small):
    small.incoming(GREAT, "in")
    small.dial(GREAT, "out")

    assert small.established(GREAT, "in") == (True, None, [])

    assert not small.start_deferred(GREAT, "out")
    assert not small.is_pending(GREAT)


def test_the_smaller_peer_may_have_dropped_its_own_attempt_so_ours_goes_on(great):
    great.incoming(SMALL, "in")
    great.dial(SMALL, "out")
    great.start_deferred(SMALL, "out")

    assert great.established(SMALL, "in") == (True, None, [])
    assert great.established(SMALL, "out") == (True, "in", [])


def test_after_nok_the_incoming_connection_is_awaited_and_accepted(small):
    small.dial(GREAT, "out")

    small.nok_received(GREAT, "out")

    assert small.is_pending(GREAT)
    assert small.incoming(GREAT, "in") is Status.OK
    assert small.is_pending(GREAT)
    assert small.established(GREAT, "in") == (True, None, [])
    assert not small.expire(GREAT, "out")
    assert not small.is_pending(GREAT)


def test_nok_after_the_incoming_connection_was_established_changes_nothing(great):
    great.incoming(SMALL, "in")
    great.dial(SMALL, "out")
    great.start_deferred(SMALL, "out")
    great.established(SMALL, "in")

    great.nok_received(SMALL, "out")

    assert great.established_connection(SMALL) == "in"
    assert not great.is_pending(SMALL)


def test_the_wait_ends_when_the_awaited_connection_fails(small):
    small.dial(GREAT, "out")
    small.incoming(GREAT, "in")
    small.nok_received(GREAT, "out")

    small.handshake_failed(GREAT, "in")

    assert not small.is_pending(GREAT)
    assert small._peers == {}


def test_a_wait_for_an_incoming_connection_expires(small):
    small.dial(GREAT, "out")
    small.nok_received(GREAT, "out")

    assert small.expire(GREAT, "out")
    assert not small.is_pending(GREAT)
    assert not small.expire(GREAT, "out")


def test_the_expiry_of_an_earlier_wait_does_not_end_a_later_one(small):
    small.dial(GREAT, "first")
    small.nok_received(GREAT, "first")
    small.incoming(GREAT, "in")
    small.handshake_failed(GREAT, "in")
    small.dial(GREAT, "second")
    small.nok_received(GREAT, "second")

    assert not small.expire(GREAT, "first")
    assert small.is_pending(GREAT)


def test_a_connected_node_answers_alive_and_keeps_the_old_connection_until_the_new_one_is_complete(small):
    small.dial(GREAT, "old")
    small.established(GREAT, "old")

    assert small.incoming(GREAT, "new") is Status.ALIVE
    assert small.established_connection(GREAT) == "old"
    assert small.established(GREAT, "new") == (True, "old", [])
    assert small.established_connection(GREAT) == "new"
    assert not small.connection_lost(GREAT, "old")


def test_a_replacement_that_fails_leaves_the_old_connection(small):
    small.dial(GREAT, "old")
    small.established(GREAT, "old")
    small.incoming(GREAT, "new")

    small.handshake_failed(GREAT, "new")

    assert small.established_connection(GREAT) == "old"
    assert not small.is_pending(GREAT)


def test_somebody_who_says_the_name_does_not_keep_out_the_next_incarnation_of_a_connected_node(great):
    great.dial(SMALL, "old")
    great.established(SMALL, "old")
    great.incoming(SMALL, "liar")

    assert great.incoming(SMALL, "new") is Status.ALIVE
    assert great.established(SMALL, "new") == (True, "old", ["liar"])


def test_a_replacement_continues_when_the_old_connection_ends_meanwhile(small):
    small.dial(GREAT, "old")
    small.established(GREAT, "old")
    small.incoming(GREAT, "new")

    assert small.connection_lost(GREAT, "old")

    assert small.established(GREAT, "new") == (True, None, [])


def test_an_attempt_answered_with_alive_is_kept_while_the_peer_is_not_connected(small):
    small.dial(GREAT, "out")
    assert small.keep_attempt(GREAT, "out")

    small.incoming(GREAT, "in")
    assert small.keep_attempt(GREAT, "out")
    small.established(GREAT, "in")
    assert not small.keep_attempt(GREAT, "out")
    assert not small.keep_attempt("c@h", "out")


def test_an_attempt_answered_with_alive_is_dropped_if_the_peer_is_connected_by_now(great):
    great.incoming(SMALL, "in")
    great.dial(SMALL, "out")
    great.start_deferred(SMALL, "out")
    great.established(SMALL, "in")

    assert not great.keep_attempt(SMALL, "out")


def test_a_connection_is_lost_once(small):
    small.dial(GREAT, "out")
    assert not small.connection_lost(GREAT, "out")

    small.established(GREAT, "out")

    assert small.connection_lost(GREAT, "out")
    assert not small.connection_lost(GREAT, "out")
    assert small._peers == {}


def test_unknown_peers_and_connections_are_ignored(small):
    small.handshake_failed(GREAT, "out")
    small.nok_received(GREAT, "out")

    assert small.established(GREAT, "out") == (False, None, [])
    assert not small.expire(GREAT, "out")
    assert not small.connection_lost(GREAT, "out")
    assert not small.start_deferred(GREAT, "out")
    small.dial(GREAT, "out")
    small.handshake_failed(GREAT, "other")
    small.nok_received(GREAT, "other")
    assert small.keep_attempt(GREAT, "out")


def test_a_failed_attempt_leaves_no_entry(small):
    small.dial(GREAT, "out")
    small.handshake_failed(GREAT, "out")
    small.incoming(GREAT, "in")
    small.handshake_failed(GREAT, "in")

    assert small._peers == {}


# Every order of events


@dataclass
class Wire:
    """A TCP connection: the packets under way to each end, and whether an end is open."""

    caller: int
    answerer: int
    under_way: tuple = field(
        default_factory=lambda: (deque(["name"]), deque())
    )  # to the accepting node, to the initiating node
    open: list = field(default_factory=lambda: [True, True])  # the initiating end, the accepting end


class Nodes:
    """Nodes that dial each other, with the packets of the handshake that matter, each pair's in FIFO order.

    ``wants[x]`` says that a caller on x waits for the connection. ``unreachable`` collects the pairs whose callers got
    False. With ``hasty``, a deferred attempt starts at any time.
    """

    def __init__(self, dials, losses, count=2, hasty=False):
        self.names = [SMALL, GREAT, "c@h"][:count]
        self.peers = [ConnectionTable(name) for name in self.names]
        self.wires = []
        self.dials = list(dials)
        self.losses = losses
        self.hasty = hasty
        self.wants = set()
        self.unreachable = []
        self.replaced = []

    def key(self):
        tables = [sorted((n, str(p)) for n, p in peers._peers.items()) for peers in self.peers]
        wires = [(w.caller, *map(tuple, w.under_way), *w.open) for w in self.wires]
        return str((tables, wires, self.dials, self.losses, sorted(self.wants), self.unreachable))

    def events(self):
        found = [("dial", x, y) for x, y in self.pairs() if self.dials[x]]
        for number, wire in enumerate(self.wires):
            found += [("deliver", number, end) for end in (0, 1) if wire.under_way[end]]
            found += [
                ("lose", number, end) for end in (0, 1) if self.losses and wire.open[end] and self.is_up(number, end)
            ]
        if not found or self.hasty:  # half a second is longer than a packet usually takes
            found += [
                ("start_deferred", x, y)
                for x, y in self.pairs()
                if self.entry(x, y) and self.entry(x, y).deferred is not None
            ]
        if not found:  # 7 seconds are longer than any packet takes
            found = [
                ("give_up", x, y)
                for x, y in self.pairs()
                if self.entry(x, y) and self.entry(x, y).awaiting_incoming is not None
            ]
        return found

    def pairs(self):
        return [(x, y) for x in range(len(self.peers)) for y in range(len(self.peers)) if x != y]

    def entry(self, x, y):
        return self.peers[x]._peers.get(self.names[y])

    def ends(self, number):
        wire = self.wires[number]
        return wire.caller, wire.answerer

    def is_up(self, number, end):
        x, y = self.ends(number) if end == 0 else self.ends(number)[::-1]
        return self.peers[x].established_connection(self.names[y]) == number

    def is_whole(self, number, pair):
        """Whether it is open and established at both ends."""
        ends = {*self.ends(number)} == pair and all(self.wires[number].open)
        return ends and self.is_up(number, 0) and self.is_up(number, 1)

    def dial(self, x, y):
        if self.dials[x]:
            self.dials[x] -= 1
            self.call(x, y)

    def call(self, x, y):
        self.wants.add((x, y))
        if self.peers[x].established_connection(self.names[y]) is not None:
            self.wants.discard((x, y))
            return
        number = len(self.wires)
        match self.peers[x].dial(self.names[y], number):
            case Dial.NOW:
                self.wires.append(Wire(x, y))
            case Dial.LATER:
                self.wires.append(Wire(x, y, (deque(), deque())))

    def start_deferred(self, x, y):
        number = self.entry(x, y).deferred
        assert self.peers[x].start_deferred(self.names[y], number)
        self.wires[number].under_way[0].append("name")

    def settle(self, x, y):
        peers, name = self.peers[x], self.names[y]
        if peers.established_connection(name) is not None:
            self.wants.discard((x, y))
        elif not peers.is_pending(name) and (x, y) in self.wants:
            self.wants.discard((x, y))
            self.unreachable.append((x, y))

    def send(self, number, end, *packets):
        """Send packets from ``end`` (0: the initiating one) to the other."""
        if self.wires[number].open[end]:
            self.wires[number].under_way[end].extend(packets)

    def close(self, number, end):
        self.send(number, end, "closed")
        self.wires[number].open[end] = False

    def lose(self, number, end):
        """One end detects the loss of the connection. The other one does so later."""
        self.losses -= 1
        self.close(number, end)
        x, y = self.ends(number) if end == 0 else self.ends(number)[::-1]
        assert self.peers[x].connection_lost(self.names[y], number)

    def give_up(self, x, y):
        assert self.peers[x].expire(self.names[y], self.entry(x, y).awaiting_incoming)
        self.settle(x, y)

    def deliver(self, number, direction):
        """Deliver one packet; ``direction`` 0 is to the accepting node."""
        wire = self.wires[number]
        packet = wire.under_way[direction].popleft()
        end = 1 - direction
        if not wire.open[end]:
            return
        caller, answerer = self.ends(number)
        if end == 1:
            self.answer(number, packet, self.peers[answerer], self.names[caller])
            self.settle(answerer, caller)
        else:
            self.go_on(number, packet, self.peers[caller], self.names[answerer])
            self.settle(caller, answerer)

    def answer(self, number, packet, peers, name):
        caller, answerer = self.ends(number)
        match packet:
            case "name":
                match peers.incoming(name, number):
                    case Status.NOK:
                        self.send(number, 1, "nok")
                        self.close(number, 1)
                    case Status.ALIVE:
                        self.send(number, 1, "alive")
                    case _:
                        self.send(number, 1, "challenge")
            case "true":
                self.send(number, 1, "challenge")
            case "reply":
                self.meet(number, 1, peers, name)
                self.send(number, 1, "ack")
            case "false" | "closed":
                self.close(number, 1)
                if not peers.connection_lost(name, number):
                    was_reserved = self.entry(answerer, caller) and number in self.entry(answerer, caller).candidates
                    deferred = peers.handshake_failed(name, number)
                    if deferred is not None:
                        self.wires[deferred].under_way[0].append("name")
                    elif was_reserved and (answerer, caller) in self.wants:
                        self.call(answerer, caller)

    def go_on(self, number, packet, peers, name):
        match packet:
            case "nok":
                peers.nok_received(name, number)
                self.close(number, 0)
            case "alive":
                if peers.keep_attempt(name, number):
                    self.send(number, 0, "true")
                else:
                    self.send(number, 0, "false")
                    peers.nok_received(name, number)
                    self.close(number, 0)
            case "challenge":
                self.send(number, 0, "reply")
            case "ack":
                self.meet(number, 0, peers, name)
            case "closed":
                self.close(number, 0)
                if not peers.connection_lost(name, number):
                    peers.handshake_failed(name, number)

    def meet(self, number, end, peers, name):
        counts, old, outdated = peers.established(name, number)
        x = self.ends(number)[end]
        if not counts:
            self.close(number, end)
        elif old is not None:
            self.replaced.append(old)
            self.close(old, 0 if self.wires[old].caller == x else 1)
        for each in outdated:
            self.close(each, 0 if self.wires[each].caller == x else 1)

    def check(self):
        for x, y in self.pairs():
            entry = self.entry(x, y)
            if entry is not None:
                assert not entry.is_idle(), "an entry of nothing"
                assert entry.awaiting_incoming is None or (entry.outgoing, entry.established) == (None, None)
                assert entry.deferred is None or entry.candidates
            if x < y:
                whole = [number for number in range(len(self.wires)) if self.is_whole(number, {x, y})]
                assert len(whole) <= 1, "two connections count for one pair"

    def check_end(self):
        for x, y in self.pairs():
            assert self.peers[x].established_connection(self.names[y]) == self.peers[y].established_connection(
                self.names[x]
            ), "connected at one end"
            assert not self.peers[x].is_pending(self.names[y])
        assert not self.wants, "a caller waits forever"


def explore(start, check_end):
    seen, todo, ends = set(), [start], 0
    while todo:
        nodes = todo.pop()
        events = nodes.events()
        if not events:
            nodes.check_end()
            check_end(nodes)
            ends += 1
        for act, *where in events:
            after = copy.deepcopy(nodes)
            getattr(after, act)(*where)
            after.check()
            if (key := after.key()) not in seen:
                seen.add(key)
                todo.append(after)
    return len(seen), ends


@pytest.mark.parametrize("dials", [(1, 0), (0, 1), (1, 1), (2, 1), (1, 2), (2, 2)])
def test_in_every_order_two_nodes_that_dial_each_other_connect(dials):
    def check_end(nodes):
        assert nodes.peers[0].established_connection(GREAT) is not None
        assert nodes.unreachable == []
        assert nodes.replaced == [], "a good connection was replaced"

    states, ends = explore(Nodes(dials, losses=0), check_end)

    assert ends > 0
    assert states >= 5


@pytest.mark.parametrize("dials", [(1, 0), (0, 1), (1, 1)])
def test_in_every_order_two_nodes_connect_although_deferred_attempts_start_too_early(dials):
    def check_end(nodes):
        assert nodes.peers[0].established_connection(GREAT) is not None
        assert nodes.unreachable == []

    states, ends = explore(Nodes(dials, losses=0, hasty=True), check_end)

    assert ends > 0
    assert states >= 5


@pytest.mark.parametrize("dials", [(1, 1), (2, 1), (1, 2)])
def test_in_every_order_of_losses_both_nodes_agree_in_the_end(dials):
    states, ends = explore(Nodes(dials, losses=1), lambda _: None)

    assert ends > 0
    assert states > 50


@pytest.mark.slow
@given(st.randoms(use_true_random=False), st.tuples(*[st.integers(0, 3)] * 3), st.integers(0, 3), st.booleans())
@settings(max_examples=300, deadline=None)
def test_in_any_order_three_nodes_end_with_one_connection_for_each_pair(chance, dials, losses, hasty):
    nodes = Nodes(dials, losses, count=3, hasty=hasty)
    while events := nodes.events():
        act, *where = chance.choice(events)
        getattr(nodes, act)(*where)
        nodes.check()

    nodes.check_end()
