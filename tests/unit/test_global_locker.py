"""The locker by itself: whom it locks in which order, what it says to the other locker, and when."""

import pytest
from fake_runtime import World

from erlmesh.core.gen import GEN_CALL, GEN_CAST, reply_to
from erlmesh.services.global_.lock_table import LockTable
from erlmesh.services.global_.locker import Locker, lock_id
from erlmesh.terms import Atom, Pid

ME, HIM = Atom("m@h"), Atom("h@h")
SERVER, GLOBAL = Atom("global_name_server"), Atom("global")
SET, DEL, LOCK_SET, LOCK_IS_SET = map(Atom, ("set_lock", "del_lock", "lock_set", "lock_is_set"))
HIS_THE_LOCKER, CANCEL, IN_SYNC = map(Atom, ("his_the_locker", "cancel", "in_sync"))


class Stage:
    """One real locker on m@h, known nodes whose servers write down what they are asked, and a scripted peer h@h."""

    def __init__(self, known=(), *, seed=1):
        self.world = World(seed, delay=(0.0001, 0.0001))
        self.gen_calls = []
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
        self.his = self.nodes["h@h"].spawn_handler(lambda message: self.casts.append(("his locker", message))).pid

    def _server(self, name):
        def receive(message):
            match message:
                case (kind, (Pid() as pid, tag), (what, lock)) if kind is GEN_CALL:
                    assert pid == self.locker, "locks belong to the locker"
                    assert lock == lock_id(self.locker, self.his)
                    self.gen_calls.append((what.name, name))
                    answer = what is DEL or name not in self.refusing
                    self.servers[name].send(reply_to((pid, tag)), (tag, answer))
                case (kind, cast) if kind is GEN_CAST:
                    self.casts.append((name, cast))

        return receive

    def tell(self, *message):
        self.me.send(self.locker, message)

    def meet(self, *, vsn=8):
        self.tell(HIS_THE_LOCKER, self.his, vsn, 7, 100)

    def run(self, seconds=4.0):
        self.world.run(seconds)
        return self

    def said(self, name):
        return [cast for where, cast in self.casts if where == name]


def test_lock_order_is_boss_then_own_node_and_peer_then_others():
    stage = Stage(["a@h", "z@h", "c@h"])

    stage.meet()
    stage.run()

    assert stage.gen_calls[0] == ("set_lock", "z@h")
    assert sorted(stage.gen_calls[1:3]) == [("set_lock", "h@h"), ("set_lock", "m@h")]
    assert sorted(stage.gen_calls[3:]) == [("set_lock", "a@h"), ("set_lock", "c@h")]
    assert stage.said("h@h") == [(LOCK_SET, stage.locker, True, [Atom("a@h"), Atom("z@h"), Atom("c@h")], 7)]


def test_boss_is_released_last_and_after_the_announcements():
    stage = Stage(["a@h", "z@h"])
    stage.meet()
    stage.run()
    stage.tell(LOCK_SET, stage.his, True, [], 100)
    stage.run()
    stage.gen_calls.clear()

    stage.tell(CANCEL, HIM, 100, [(Atom("a@h"), (Atom("new_nodes"),)), (Atom("z@h"), (Atom("new_nodes"),))])
    stage.run()

    assert stage.said("m@h") == [(LOCK_IS_SET, HIM, 100, lock_id(stage.locker, stage.his))]
    assert stage.said("a@h") == stage.said("z@h") == [(Atom("new_nodes"),)]
    assert sorted(stage.gen_calls[:3]) == [("del_lock", name) for name in ("a@h", "h@h", "m@h")]
    assert stage.gen_calls[3:] == [("del_lock", "z@h")]


@pytest.mark.parametrize("refusing", ["a@h", "h@h", "m@h", "z@h"])
def test_refusal_by_any_node_releases_all_locks(refusing):
    stage = Stage(["a@h", "z@h"])
    stage.refusing.add(refusing)

    stage.meet()
    stage.run(8)

    taken = [name for what, name in stage.gen_calls if what == "set_lock" and name != refusing]
    given = [name for what, name in stage.gen_calls if what == "del_lock"]
    assert sorted(taken) == sorted(given)
    assert len([name for what, name in stage.gen_calls if what == "set_lock" and name == "z@h"]) > 1  # again and again
    assert stage.said("h@h") == []


@pytest.mark.parametrize("end", ["no", "cancel"])
def test_lock_is_released_if_the_peer_cannot_lock_or_is_lost(end):
    stage = Stage(["a@h"])
    stage.meet()
    stage.run(1.2)
    assert len(stage.gen_calls) == 3

    stage.tell(*((LOCK_SET, stage.his, False, [], 100) if end == "no" else (CANCEL, HIM, 100, [])))
    stage.run(0.1)

    assert sorted(stage.gen_calls[3:]) == [("del_lock", name) for name in ("a@h", "h@h", "m@h")]
    stage.gen_calls.clear()
    stage.run(3)
    assert bool(stage.gen_calls) == (end == "no")  # tried again, unless the session is over
    assert stage.said("m@h") == []


def test_messages_of_other_sessions_are_ignored():
    stage = Stage()
    stage.meet()
    stage.run()

    stage.tell(LOCK_SET, stage.his, True, [], 99)
    stage.tell(LOCK_SET, stage.his, False, [], 99)
    stage.tell(CANCEL, HIM, 99, [])
    stage.tell(LOCK_SET, Pid(Atom("other@h"), 1, 0, 1), True, [], 100)
    stage.run()

    assert stage.said("m@h") == []
    assert [what for what, _ in stage.gen_calls] == ["set_lock", "set_lock"]


def test_no_attempt_while_global_is_locked_here():
    stage = Stage()
    stage.locks.set((GLOBAL, b"x"), stage.his)

    stage.meet()
    stage.run(10)
    assert stage.gen_calls == []
    stage.locks.delete((GLOBAL, b"x"), stage.his)

    assert stage.run(1).gen_calls != []


def test_boss_is_not_locked_if_the_own_node_cannot_be_locked():
    stage = Stage(["z@h"])
    stage.locks.set((GLOBAL, b"x"), stage.his)
    stage.meet()

    stage.tell(LOCK_SET, stage.his, True, [], 100)
    stage.run(0.1)

    assert stage.gen_calls == []
    assert stage.said("h@h") == [(LOCK_SET, stage.locker, False, [Atom("z@h")], 7)]


def test_peer_may_start():
    stage = Stage(["a@h"])
    stage.meet()

    stage.tell(LOCK_SET, stage.his, True, [], 100)
    stage.run(0.1)

    assert sorted(stage.gen_calls) == [("set_lock", "a@h"), ("set_lock", "m@h")]  # he has locked himself
    assert stage.said("h@h") == [(LOCK_SET, stage.locker, True, [Atom("a@h")], 7)]
    assert stage.said("m@h") == [(LOCK_IS_SET, HIM, 100, lock_id(stage.locker, stage.his))]


@pytest.mark.parametrize("tag", [99, None])
def test_lock_set_of_an_unknown_session_is_refused(tag):
    stage = Stage(["a@h"])
    if tag is not None:
        stage.meet()

    stage.tell(LOCK_SET, stage.his, True, [], tag)
    stage.run(0.1)

    assert stage.gen_calls == []
    assert stage.said("his locker") == [(LOCK_SET, stage.locker, False, [Atom("a@h")])]


@pytest.mark.parametrize(
    ("vsn", "where", "tags"), [(5, "his locker", ()), (6, "h@h", ()), (7, "h@h", ()), (8, "h@h", (7,))]
)
def test_lock_set_has_the_form_of_the_version(vsn, where, tags):
    stage = Stage()

    stage.meet(vsn=vsn)
    stage.run(1)

    assert stage.said(where) == [(LOCK_SET, stage.locker, True, [], *tags)]
    assert len(stage.said("h@h")) + len(stage.said("his locker")) == 1


def test_lock_set_of_old_versions_has_no_tag():
    stage = Stage()
    stage.meet(vsn=5)
    stage.run(1)

    stage.tell(LOCK_SET, stage.his, True, [])
    stage.run(1)

    assert stage.said("m@h") == [(LOCK_IS_SET, HIM, 100, lock_id(stage.locker, stage.his))]


def test_known_peer_is_not_locked():
    stage = Stage()
    stage.meet()
    stage.known[HIM] = 8

    stage.run(10)

    assert stage.gen_calls == []


def test_cancelled_peer_is_not_attempted():
    stage = Stage()
    stage.meet()
    stage.tell(CANCEL, HIM, 100, [])

    stage.run(10)

    assert stage.gen_calls == []


def test_first_attempt_is_random_and_early_for_a_node_without_peers():
    def first(seed, known=()):
        stage = Stage(known, seed=seed)
        stage.meet()
        began = stage.world.time
        stage.world.run(until=lambda: stage.gen_calls)
        return stage.world.time - began

    alone = [first(seed) for seed in range(20)]
    known = [first(seed, ["a@h", "b@h"]) for seed in range(20)]

    assert all(0.1 < pause < 0.21 for pause in alone)
    assert all(0.6 < pause < 1.21 for pause in known)
    assert len({round(pause, 4) for pause in alone}) > 10


def test_lock_id_is_the_same_for_both_lockers():
    low, high = Pid(Atom("z@h"), 5, 0, 9), Pid(Atom("a@h"), 5, 1, 1)

    assert lock_id(low, high) == lock_id(high, low) == (GLOBAL, [low, high])
