"""Who wins when both dial: single decisions, and every order in which two nodes can call each other."""

import copy
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlmesh.core.connection_table import ConnectionTable
from erlmesh.proto.handshake import Status

SMALL, GREAT = "a@h", "b@h"


@pytest.fixture
def small():
    return ConnectionTable(SMALL)


@pytest.fixture
def great():
    return ConnectionTable(GREAT)


def test_nothing_is_known_at_first(small):
    assert small.established_connection(GREAT) is None
    assert not small.is_pending(GREAT)
    assert small.established_connections() == {}


def test_a_dialled_connection_is_pending_then_up(small):
    assert small.dial(GREAT, "out")
    assert small.is_pending(GREAT)
    assert small.established_connection(GREAT) is None

    assert small.established(GREAT, "out") == (True, None)
    assert small.established_connection(GREAT) == "out"
    assert not small.is_pending(GREAT)
    assert small.established_connections() == {GREAT: "out"}


def test_an_answered_connection_is_pending_then_up(small):
    assert small.incoming(GREAT, "in") == (Status.OK, None)
    assert small.is_pending(GREAT)

    assert small.established(GREAT, "in") == (True, None)
    assert small.established_connection(GREAT) == "in"


@pytest.mark.parametrize("going_on", ["dialling", "answering", "expecting", "up"])
def test_nobody_dials_while_something_goes_on(small, going_on):
    if going_on == "answering":
        small.incoming(GREAT, "first")
    else:
        small.dial(GREAT, "first")
    if going_on == "expecting":
        small.nok_received(GREAT, "first")
    if going_on == "up":
        small.established(GREAT, "first")

    assert not small.dial(GREAT, "second")


def test_a_call_under_our_own_name_is_refused(small):
    assert small.incoming(SMALL, "in") == (Status.NOK, None)
    assert not small.is_pending(SMALL)


def test_the_greater_name_refuses_a_call_while_it_dials(great):
    great.dial(SMALL, "out")

    assert great.incoming(SMALL, "in") == (Status.NOK, None)
    assert great.established(SMALL, "in") == (False, None)
    assert great.established(SMALL, "out") == (True, None)


def test_the_smaller_name_gives_up_its_own_dial_for_a_call(small):
    small.dial(GREAT, "out")

    assert small.incoming(GREAT, "in") == (Status.OK_SIMULTANEOUS, "out")
    assert small.established(GREAT, "out") == (False, None)
    assert small.established(GREAT, "in") == (True, None)


def test_the_greater_name_keeps_the_first_of_two_calls(great):
    great.incoming(SMALL, "first")

    assert great.incoming(SMALL, "second") == (Status.NOK, None)


def test_the_smaller_name_keeps_the_second_of_two_calls(small):
    small.incoming(GREAT, "first")

    assert small.incoming(GREAT, "second") == (Status.OK_SIMULTANEOUS, "first")
    assert small.established(GREAT, "first") == (False, None)


def test_after_nok_their_call_is_waited_for_and_taken(small):
    small.dial(GREAT, "out")

    small.nok_received(GREAT, "out")

    assert small.is_pending(GREAT)
    assert small.incoming(GREAT, "in") == (Status.OK, None)
    assert not small.expire(GREAT, "out")
    assert small.is_pending(GREAT)


def test_nok_after_their_call_changes_nothing(small):
    small.dial(GREAT, "out")
    small.incoming(GREAT, "in")

    small.nok_received(GREAT, "out")
    small.handshake_failed(GREAT, "in")

    assert not small.is_pending(GREAT)


def test_a_call_that_does_not_come_is_given_up(small):
    small.dial(GREAT, "out")
    small.nok_received(GREAT, "out")

    assert small.expire(GREAT, "out")
    assert not small.is_pending(GREAT)
    assert not small.expire(GREAT, "out")


def test_the_end_of_an_earlier_wait_does_not_end_a_later_one(small):
    small.dial(GREAT, "first")
    small.nok_received(GREAT, "first")
    small.incoming(GREAT, "in")
    small.handshake_failed(GREAT, "in")
    small.dial(GREAT, "second")
    small.nok_received(GREAT, "second")

    assert not small.expire(GREAT, "first")
    assert small.is_pending(GREAT)


def test_who_is_connected_answers_alive_and_keeps_the_old_connection_until_the_new_one_is_proved(small):
    small.dial(GREAT, "old")
    small.established(GREAT, "old")

    assert small.incoming(GREAT, "new") == (Status.ALIVE, None)
    assert small.established_connection(GREAT) == "old"
    assert small.established(GREAT, "new") == (True, "old")
    assert small.established_connection(GREAT) == "new"
    assert not small.connection_lost(GREAT, "old")


def test_a_take_over_that_fails_leaves_the_old_connection(small):
    small.dial(GREAT, "old")
    small.established(GREAT, "old")
    small.incoming(GREAT, "new")

    small.handshake_failed(GREAT, "new")

    assert small.established_connection(GREAT) == "old"
    assert not small.is_pending(GREAT)


def test_a_third_call_during_a_take_over_gets_no_word(great):
    great.dial(SMALL, "old")
    great.established(SMALL, "old")
    great.incoming(SMALL, "new")

    assert great.incoming(SMALL, "newer") == (None, None)
    assert great.established(SMALL, "newer") == (False, None)


def test_a_take_over_goes_on_when_the_old_connection_ends_meanwhile(small):
    small.dial(GREAT, "old")
    small.established(GREAT, "old")
    small.incoming(GREAT, "new")

    assert small.connection_lost(GREAT, "old")

    assert small.is_pending(GREAT)
    assert small.established(GREAT, "new") == (True, None)


def test_a_dial_answered_with_alive_is_wanted_as_long_as_it_is_the_one(small):
    small.dial(GREAT, "out")
    assert small.keep_attempt(GREAT, "out")

    small.incoming(GREAT, "in")
    assert not small.keep_attempt(GREAT, "out")
    small.established(GREAT, "in")
    assert not small.keep_attempt(GREAT, "out")
    assert not small.keep_attempt("c@h", "out")


def test_a_connection_is_lost_once(small):
    small.dial(GREAT, "out")
    assert not small.connection_lost(GREAT, "out")

    small.established(GREAT, "out")

    assert small.connection_lost(GREAT, "out")
    assert not small.connection_lost(GREAT, "out")
    assert small._peers == {}


def test_what_is_not_known_does_nothing(small):
    small.handshake_failed(GREAT, "out")
    small.nok_received(GREAT, "out")

    assert small.established(GREAT, "out") == (False, None)
    assert not small.expire(GREAT, "out")
    assert not small.connection_lost(GREAT, "out")
    small.dial(GREAT, "out")
    small.handshake_failed(GREAT, "other")
    small.nok_received(GREAT, "other")
    assert small.keep_attempt(GREAT, "out")


def test_a_failed_dial_leaves_nothing(small):
    small.dial(GREAT, "out")

    small.handshake_failed(GREAT, "out")

    assert small._peers == {}


# Every order of events


@dataclass
class Wire:
    """A connection as it travels: what is under way to each end, and whether an end is open."""

    caller: int
    under_way: tuple = field(default_factory=lambda: (deque(["name"]), deque()))  # to the answerer, to the caller
    open: list = field(default_factory=lambda: [True, True])  # the caller's end, the answerer's


class Nodes:
    """Nodes that dial each other, with the packets of the handshake that matter, each pair's in FIFO order.

    ``wants[x]`` says that somebody on x waits for the connection; ``told_no`` collects those told that there is none.
    """

    def __init__(self, dials, losses, count=2):
        self.names = [SMALL, GREAT, "c@h"][:count]
        self.peers = [ConnectionTable(name) for name in self.names]
        self.wires = []
        self.dials = list(dials)
        self.losses = losses
        self.wants = set()
        self.told_no = []
        self.replaced = []

    def key(self):
        tables = [sorted((n, str(p)) for n, p in peers._peers.items()) for peers in self.peers]
        wires = [(w.caller, *map(tuple, w.under_way), *w.open) for w in self.wires]
        return str((tables, wires, self.dials, self.losses, sorted(self.wants), self.told_no))

    def events(self):
        found = [("dial", x, y) for x, y in self.pairs() if self.dials[x]]
        for number, wire in enumerate(self.wires):
            found += [("deliver", number, end) for end in (0, 1) if wire.under_way[end]]
            found += [
                ("lose", number, end) for end in (0, 1) if self.losses and wire.open[end] and self.is_up(number, end)
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
        """It is open and counts at both of its ends."""
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
        elif self.peers[x].dial(self.names[y], len(self.wires)):
            wire = Wire(x)
            wire.answerer = y
            self.wires.append(wire)

    def settle(self, x, y):
        peers, name = self.peers[x], self.names[y]
        if peers.established_connection(name) is not None:
            self.wants.discard((x, y))
        elif not peers.is_pending(name) and (x, y) in self.wants:
            self.wants.discard((x, y))
            self.told_no.append((x, y))

    def say(self, number, end, *packets):
        """From ``end`` (0 the caller) to the other."""
        if self.wires[number].open[end]:
            self.wires[number].under_way[end].extend(packets)

    def close(self, number, end):
        self.say(number, end, "closed")
        self.wires[number].open[end] = False

    def lose(self, number, end):
        """One end hears that the connection is gone; the other will, later."""
        self.losses -= 1
        self.close(number, end)
        x, y = self.ends(number) if end == 0 else self.ends(number)[::-1]
        assert self.peers[x].connection_lost(self.names[y], number)

    def give_up(self, x, y):
        assert self.peers[x].expire(self.names[y], self.entry(x, y).awaiting_incoming)
        self.settle(x, y)

    def deliver(self, number, direction):
        """``direction`` 0 is to the answerer."""
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
                status, rival = peers.incoming(name, number)
                if rival is not None:
                    self.close(rival, 0 if self.wires[rival].caller == answerer else 1)
                match status:
                    case None:
                        self.close(number, 1)
                    case Status.NOK:
                        self.say(number, 1, "nok")
                        self.close(number, 1)
                    case Status.ALIVE:
                        self.say(number, 1, "alive")
                    case _:
                        self.say(number, 1, "challenge")
            case "true":
                self.say(number, 1, "challenge")
            case "reply":
                self.meet(number, 1, peers, name)
                self.say(number, 1, "ack")
            case "false" | "closed":
                self.close(number, 1)
                if not peers.connection_lost(name, number):
                    was_reserved = self.entry(answerer, caller) and self.entry(answerer, caller).incoming == number
                    peers.handshake_failed(name, number)
                    if was_reserved and (answerer, caller) in self.wants:
                        self.call(answerer, caller)

    def go_on(self, number, packet, peers, name):
        match packet:
            case "nok":
                peers.nok_received(name, number)
                self.close(number, 0)
            case "alive":
                if peers.keep_attempt(name, number):
                    self.say(number, 0, "true")
                else:
                    self.say(number, 0, "false")
                    peers.nok_received(name, number)
                    self.close(number, 0)
            case "challenge":
                self.say(number, 0, "reply")
            case "ack":
                self.meet(number, 0, peers, name)
            case "closed":
                self.close(number, 0)
                if not peers.connection_lost(name, number):
                    peers.handshake_failed(name, number)

    def meet(self, number, end, peers, name):
        counts, old = peers.established(name, number)
        if not counts:
            self.close(number, end)
        elif old is not None:
            self.replaced.append(old)
            x = self.ends(number)[end]
            self.close(old, 0 if self.wires[old].caller == x else 1)

    def check(self):
        for x, y in self.pairs():
            entry = self.entry(x, y)
            if entry is not None:
                assert not entry.is_idle(), "an entry of nothing"
                assert entry.outgoing is None or entry.incoming is None
                assert entry.outgoing is None or entry.established is None
                assert entry.awaiting_incoming is None or (entry.outgoing, entry.incoming, entry.established) == (
                    None,
                    None,
                    None,
                )
            if x < y:
                whole = [number for number in range(len(self.wires)) if self.is_whole(number, {x, y})]
                assert len(whole) <= 1, "two connections count for one pair"

    def check_end(self):
        for x, y in self.pairs():
            assert self.peers[x].established_connection(self.names[y]) == self.peers[y].established_connection(
                self.names[x]
            ), "connected at one end"
            assert not self.peers[x].is_pending(self.names[y])
        assert not self.wants, "somebody waits for ever"


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
def test_however_two_nodes_call_each_other_they_meet_and_nobody_is_told_no(dials):
    def check_end(nodes):
        assert nodes.peers[0].established_connection(GREAT) is not None
        assert nodes.told_no == []
        assert nodes.replaced == [], "a good connection was replaced"

    states, ends = explore(Nodes(dials, losses=0), check_end)

    assert ends > 0
    assert states >= 5


@pytest.mark.parametrize("dials", [(1, 1), (2, 1), (1, 2)])
def test_whichever_end_loses_a_connection_first_both_agree_in_the_end(dials):
    states, ends = explore(Nodes(dials, losses=1), lambda _: None)

    assert ends > 0
    assert states > 50


@given(st.randoms(use_true_random=False), st.tuples(*[st.integers(0, 3)] * 3), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_three_nodes_under_any_order_end_with_one_connection_a_pair(chance, dials, losses):
    nodes = Nodes(dials, losses, count=3)
    while events := nodes.events():
        act, *where = chance.choice(events)
        getattr(nodes, act)(*where)
        nodes.check()

    nodes.check_end()


def test_the_failure_of_an_attempt_that_gave_way_is_no_failure_of_the_call(small):
    small.dial(GREAT, "out")
    assert small.incoming(GREAT, "in") == (Status.OK_SIMULTANEOUS, "out")
    small.handshake_failed(GREAT, "out")

    assert small.is_pending(GREAT)
    assert small.established(GREAT, "in") == (True, None)
