"""The locker alone: the order of its locks, and its messages to the peer's locker."""

import pytest
from fake_runtime import FakeRuntime

from erlmesh.core.gen import GEN_CALL, GEN_CAST, reply_to
from erlmesh.services.global_.lock_table import LockTable
from erlmesh.services.global_.locker import FromServer, Locker, lock_id
from erlmesh.terms import Atom, Pid

ME, PEER = Atom("m@h"), Atom("h@h")
SERVER, GLOBAL = Atom("global_name_server"), Atom("global")
SET, DEL, LOCK_SET, LOCK_IS_SET = map(Atom, ("set_lock", "del_lock", "lock_set", "lock_is_set"))
HIS_THE_LOCKER, CANCEL, IN_SYNC = map(Atom, ("his_the_locker", "cancel", "in_sync"))


class LockerHarness:
    """A real locker on m@h, known nodes whose servers record their calls, and a scripted peer h@h."""

    def __init__(self, known=(), *, seed=1):
        self.world = FakeRuntime(seed, delay=(0.0001, 0.0001))
        self.lock_calls = []
        self.casts = []
        self.refusing = set()
        self.locks = LockTable()
        self.known = {}
        names = ["m@h", "h@h", *known]
        self.nodes = {name: self.world.node(name) for name in names}
        self.servers = {}
        for name, node in self.nodes.items():
            self.servers[name] = node.spawn_handler(self._server(name), name=SERVER)
            if name != "m@h":
                self.world.connect("m@h", name)
        self.world.run(1)
        self.known.update({Atom(name): 8 for name in known})
        self.me = self.nodes["m@h"]
        self.locker = self.me.spawn(Locker(ME, self.known, self.locks).run)
        self.peer_locker = (
            self.nodes["h@h"].spawn_handler(lambda message: self.casts.append(("peer locker", message))).pid
        )

    def _server(self, name):
        def receive(message):
            match message:
                case (kind, (Pid() as pid, tag), (what, lock)) if kind is GEN_CALL:
                    assert pid == self.locker, "locks belong to the locker"
                    assert lock == lock_id(self.locker, self.peer_locker)
                    self.lock_calls.append((what.name, name))
                    answer = what is DEL or name not in self.refusing
                    self.servers[name].send(reply_to((pid, tag)), (tag, answer))
                case (kind, cast) if kind is GEN_CAST:
                    self.casts.append((name, cast))

        return receive

    def send(self, *message):
        is_own = message[0] is not LOCK_SET
        self.me.send(self.locker, FromServer(message) if is_own else message)

    def start_session(self, *, vsn=8):
        self.send(HIS_THE_LOCKER, self.peer_locker, vsn, 7, 100)

    def run(self, seconds=4.0):
        self.world.run(seconds)
        return self

    def casts_to(self, name):
        return [cast for where, cast in self.casts if where == name]


def test_lock_order_is_boss_then_own_node_and_peer_then_others():
    harness = LockerHarness(["a@h", "z@h", "c@h"])

    harness.start_session()
    harness.run()

    assert harness.lock_calls[0] == ("set_lock", "z@h")
    assert sorted(harness.lock_calls[1:3]) == [("set_lock", "h@h"), ("set_lock", "m@h")]
    assert sorted(harness.lock_calls[3:]) == [("set_lock", "a@h"), ("set_lock", "c@h")]
    assert harness.casts_to("h@h") == [(LOCK_SET, harness.locker, True, [Atom("a@h"), Atom("z@h"), Atom("c@h")], 7)]


def test_boss_is_released_last_and_after_the_announcements():
    harness = LockerHarness(["a@h", "z@h"])
    harness.start_session()
    harness.run()
    harness.send(LOCK_SET, harness.peer_locker, True, [], 100)
    harness.run()
    harness.lock_calls.clear()

    harness.send(CANCEL, PEER, 100, [(Atom("a@h"), (Atom("new_nodes"),)), (Atom("z@h"), (Atom("new_nodes"),))])
    harness.run()

    assert harness.casts_to("m@h") == [(LOCK_IS_SET, PEER, 100, lock_id(harness.locker, harness.peer_locker))]
    assert harness.casts_to("a@h") == harness.casts_to("z@h") == [(Atom("new_nodes"),)]
    assert sorted(harness.lock_calls[:3]) == [("del_lock", name) for name in ("a@h", "h@h", "m@h")]
    assert harness.lock_calls[3:] == [("del_lock", "z@h")]


@pytest.mark.parametrize("refusing", ["a@h", "h@h", "m@h", "z@h"])
def test_refusal_by_any_node_releases_all_locks(refusing):
    harness = LockerHarness(["a@h", "z@h"])
    harness.refusing.add(refusing)

    harness.start_session()
    harness.run(8)

    taken = [name for what, name in harness.lock_calls if what == "set_lock" and name != refusing]
    given = [name for what, name in harness.lock_calls if what == "del_lock"]
    assert sorted(taken) == sorted(given)
    assert (
        len([name for what, name in harness.lock_calls if what == "set_lock" and name == "z@h"]) > 1
    )  # several attempts
    assert harness.casts_to("h@h") == []


@pytest.mark.parametrize("end", ["no", "cancel"])
def test_lock_is_released_if_the_peer_cannot_lock_or_is_lost(end):
    harness = LockerHarness(["a@h"])
    harness.start_session()
    harness.run(1.2)
    assert len(harness.lock_calls) == 3

    harness.send(*((LOCK_SET, harness.peer_locker, False, [], 100) if end == "no" else (CANCEL, PEER, 100, [])))
    harness.run(0.1)

    assert sorted(harness.lock_calls[3:]) == [("del_lock", name) for name in ("a@h", "h@h", "m@h")]
    harness.lock_calls.clear()
    harness.run(3)
    assert bool(harness.lock_calls) == (end == "no")  # attempted again, unless the session is over
    assert harness.casts_to("m@h") == []


def test_messages_of_other_sessions_are_ignored():
    harness = LockerHarness()
    harness.start_session()
    harness.run()

    harness.send(LOCK_SET, harness.peer_locker, True, [], 99)
    harness.send(LOCK_SET, harness.peer_locker, False, [], 99)
    harness.send(CANCEL, PEER, 99, [])
    harness.send(LOCK_SET, Pid(Atom("other@h"), 1, 0, 1), True, [], 100)
    harness.run()

    assert harness.casts_to("m@h") == []
    assert [what for what, _ in harness.lock_calls] == ["set_lock", "set_lock"]


def test_no_attempt_while_global_is_locked_here():
    harness = LockerHarness()
    harness.locks.set((GLOBAL, b"x"), harness.peer_locker)

    harness.start_session()
    harness.run(10)
    assert harness.lock_calls == []
    harness.locks.delete((GLOBAL, b"x"), harness.peer_locker)

    assert harness.run(1).lock_calls != []


def test_boss_is_not_locked_if_the_own_node_cannot_be_locked():
    harness = LockerHarness(["z@h"])
    harness.locks.set((GLOBAL, b"x"), harness.peer_locker)
    harness.start_session()

    harness.send(LOCK_SET, harness.peer_locker, True, [], 100)
    harness.run(0.1)

    assert harness.lock_calls == []
    assert harness.casts_to("h@h") == [(LOCK_SET, harness.locker, False, [Atom("z@h")], 7)]


def test_peer_may_start():
    harness = LockerHarness(["a@h"])
    harness.start_session()

    harness.send(LOCK_SET, harness.peer_locker, True, [], 100)
    harness.run(0.1)

    assert sorted(harness.lock_calls) == [("set_lock", "a@h"), ("set_lock", "m@h")]  # the peer has locked its own node
    assert harness.casts_to("h@h") == [(LOCK_SET, harness.locker, True, [Atom("a@h")], 7)]
    assert harness.casts_to("m@h") == [(LOCK_IS_SET, PEER, 100, lock_id(harness.locker, harness.peer_locker))]


@pytest.mark.parametrize("tag", [99, None])
def test_lock_set_of_an_unknown_session_is_refused(tag):
    harness = LockerHarness(["a@h"])
    if tag is not None:
        harness.start_session()

    harness.send(LOCK_SET, harness.peer_locker, True, [], tag)
    harness.run(0.1)

    assert harness.lock_calls == []
    assert harness.casts_to("peer locker") == [(LOCK_SET, harness.locker, False, [Atom("a@h")])]


@pytest.mark.parametrize(
    ("vsn", "where", "tags"), [(5, "peer locker", ()), (6, "h@h", ()), (7, "h@h", ()), (8, "h@h", (7,))]
)
def test_lock_set_has_the_form_of_the_version(vsn, where, tags):
    harness = LockerHarness()

    harness.start_session(vsn=vsn)
    harness.run(1)

    assert harness.casts_to(where) == [(LOCK_SET, harness.locker, True, [], *tags)]
    assert len(harness.casts_to("h@h")) + len(harness.casts_to("peer locker")) == 1


def test_lock_set_of_old_versions_has_no_tag():
    harness = LockerHarness()
    harness.start_session(vsn=5)
    harness.run(1)

    harness.send(LOCK_SET, harness.peer_locker, True, [])
    harness.run(1)

    assert harness.casts_to("m@h") == [(LOCK_IS_SET, PEER, 100, lock_id(harness.locker, harness.peer_locker))]


def test_known_peer_is_not_locked():
    harness = LockerHarness()
    harness.start_session()
    harness.known[PEER] = 8

    harness.run(10)

    assert harness.lock_calls == []


def test_cancelled_peer_is_not_attempted():
    harness = LockerHarness()
    harness.start_session()
    harness.send(CANCEL, PEER, 100, [])

    harness.run(10)

    assert harness.lock_calls == []


def test_first_attempt_is_random_and_early_for_a_node_without_peers():
    def first(seed, known=()):
        harness = LockerHarness(known, seed=seed)
        harness.start_session()
        began = harness.world.time
        harness.world.run(until=lambda: harness.lock_calls)
        return harness.world.time - began

    without_known = [first(seed) for seed in range(20)]
    known = [first(seed, ["a@h", "b@h"]) for seed in range(20)]

    assert all(0.1 < pause < 0.21 for pause in without_known)
    assert all(0.6 < pause < 1.21 for pause in known)
    assert len({round(pause, 4) for pause in without_known}) > 10


def test_lock_id_is_the_same_for_both_lockers():
    low, high = Pid(Atom("z@h"), 5, 0, 9), Pid(Atom("a@h"), 5, 1, 1)

    assert lock_id(low, high) == lock_id(high, low) == (GLOBAL, [low, high])


def test_malformed_messages_do_not_end_the_locker():
    harness = LockerHarness()
    harness.start_session()

    for announce in ([1], [(1, 2)], [(PEER,)], [[PEER, 1]], [(PEER, 1, 2)], ["text"]):
        harness.send(CANCEL, PEER, 99, announce)
        harness.send(CANCEL, [PEER], 99, announce)
        harness.send(CANCEL, {}, [], announce)
    harness.run(1)
    assert harness.me.is_alive(harness.locker)

    harness.run(10)
    harness.send(CANCEL, PEER, 100, [1, (PEER, "announced"), (2, 3)])
    harness.run(1)
    assert harness.me.is_alive(harness.locker)
    assert "announced" in harness.casts_to("h@h")


def test_only_the_own_server_starts_and_cancels_a_session():
    harness = LockerHarness(["a@h"])
    harness.nodes["h@h"].spawn_handler(lambda _: None).send(
        harness.locker, (HIS_THE_LOCKER, harness.peer_locker, 8, 7, 100)
    )
    harness.nodes["h@h"].spawn_handler(lambda _: None).send(
        harness.locker, (CANCEL, Atom("h@h"), 100, [(Atom("a@h"), Atom("forged"))])
    )

    harness.run()

    assert harness.lock_calls == []
    assert harness.casts == []
