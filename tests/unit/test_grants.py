"""Which process a quorum lets hold a shard: the decisions of ``core/sharding/grants.py``."""

import random

import pytest

from erlmesh.core.sharding.grants import CLAIM, MAX_ROUNDS, Grants
from erlmesh.terms import Atom, Pid

LEASE, HOLD = 6.0, 7.5


def pid(node, number=1, creation=1):
    return Pid(Atom(f"{node}@127.0.0.1"), number, 0, creation)


class Group:
    """Processes, and the messages between them. A process of ``cut`` sends and gets nothing."""

    def __init__(self, *pids, quorum=2, now=100.0, old=True):
        self.now = now
        self.quorum = quorum
        self.members = {}
        self.cut = set()
        self.lost = []
        for each in pids:
            self.start(each)
        if old:
            self.now += HOLD
            self.look()

    def start(self, each):
        made = self.members[each] = Grants(each, 8, self.quorum, self.now, lease=LEASE, hold=HOLD)
        for other in [other for other in self.members if other != each and other not in self.cut]:
            made.joined(other, self.now)
            self.members[other].joined(each, self.now)
        made.look(self.now)
        self.carry()

    def carry(self):
        """Deliver all messages."""
        sent = True
        while sent:
            sent = False
            for sender, grants in list(self.members.items()):
                for to, message in grants.take_messages():
                    sent = True
                    if {sender, to} & self.cut or to not in self.members:
                        self.lost.append((to, message))
                    else:
                        self.deliver(to, message)

    def deliver(self, to, message):
        shards = int.from_bytes(message[3], "little")
        if message[0] is CLAIM:
            self.members[to].claimed(message[1], message[2], shards, self.now)
        else:
            self.members[to].granted(message[1], message[2], shards, message[4], self.now)

    def look(self):
        for each, grants in self.members.items():
            if each not in self.cut:
                grants.look(self.now)
        self.carry()

    def claim(self, each, shards):
        self.members[each].claim(shards, self.now)
        self.carry()

    def end(self, each):
        """The process has ended, and all others hear it."""
        del self.members[each]
        for grants in self.members.values():
            grants.left(each, self.now, ended=True)
        self.carry()

    def elected(self, each):
        return self.members[each].elected(self.now)


A, B, C = pid("a"), pid("b"), pid("c")


def test_the_claims_of_one_process_are_granted():
    group = Group(A, B, C)
    assert group.elected(A) == 0

    group.claim(A, 0b101)

    assert group.elected(A) == 0b101
    assert group.elected(B) == 0


def test_what_is_granted_to_one_is_granted_to_another_when_it_is_claimed_no_more():
    group = Group(A, B, C)
    group.claim(A, 0b11)
    group.claim(B, 0b110)
    assert (group.elected(A), group.elected(B)) == (0b11, 0b100)

    group.claim(A, 0b01)

    assert (group.elected(A), group.elected(B)) == (0b01, 0b110)


def test_those_who_wait_get_the_shard_when_its_holder_has_ended():
    group = Group(A, B, C)
    group.claim(A, 1)
    group.claim(B, 1)
    assert group.elected(B) == 0

    group.end(A)

    assert group.elected(B) == 1


def test_a_process_that_is_only_lost_keeps_its_grants_until_it_is_forgotten():
    group = Group(A, B, C)
    group.claim(A, 1)
    group.cut.add(A)
    for each in (B, C):
        group.members[each].left(A, group.now, ended=False)
    group.claim(B, 1)
    assert group.elected(B) == 0

    for each in (B, C):
        group.members[each].forget(A, group.now)
    group.carry()

    assert group.elected(B) == 1


def test_a_process_that_is_met_again_is_not_forgotten():
    group = Group(A, B, C)
    group.claim(A, 1)
    for each in (B, C):
        group.members[each].left(A, group.now, ended=False)
        group.members[each].joined(A, group.now)
        group.members[each].forget(A, group.now)

    group.claim(B, 1)

    assert group.elected(B) == 0


def test_a_holder_stops_before_the_others_forget_it():
    group = Group(A, B, C)
    group.claim(A, 1)
    began = group.now
    group.cut.add(A)
    group.claim(B, 1)

    group.now = began + LEASE - 0.1
    assert group.elected(A) == 1
    assert group.members[A].is_current(group.now)
    group.now = began + LEASE
    assert not group.members[A].is_current(group.now)
    assert group.elected(A) == 0
    group.now = began + HOLD - 0.1
    group.look()
    assert group.elected(B) == 0
    group.now = began + HOLD
    group.look()
    assert group.elected(B) == 1


def test_claims_again_and_again_keep_a_grant():
    group = Group(A, B, C)
    group.claim(A, 1)

    for _ in range(20):
        group.now += 1
        group.look()

        assert group.elected(A) == 1


def test_an_answer_that_comes_late_counts_from_its_claim():
    group = Group(A, B, C)
    group.claim(A, 1)
    group.cut.add(A)
    group.now += 1
    group.members[A].look(group.now)
    claims = group.members[A].take_messages()
    sent = group.now
    group.cut.clear()
    for to, message in claims:
        group.deliver(to, message)
    late = [message for each in (B, C) for _, message in group.members[each].take_messages()]

    group.now = sent + LEASE - 0.1
    for message in late:
        group.deliver(A, message)
    assert group.elected(A) == 1
    group.now = sent + LEASE
    assert group.elected(A) == 0


def test_an_answer_to_a_claim_before_a_release_does_not_count():
    group = Group(A, B, C)
    group.cut.add(A)
    group.members[A].claim(1, group.now)
    first = group.members[A].take_messages()
    group.cut.clear()
    for to, message in first:
        group.deliver(to, message)
    late = [message for each in (B, C) for _, message in group.members[each].take_messages()]
    group.members[A].claim(0, group.now)
    for to, message in group.members[A].take_messages():
        group.deliver(to, message)
    for each in (B, C):
        group.members[each].take_messages()  # Their answers to the release come later.
    group.claim(B, 1)
    assert group.elected(B) == 1

    group.members[A].claim(1, group.now)
    group.members[A].take_messages()
    for message in late:
        group.deliver(A, message)

    assert group.elected(A) == 0


def test_an_old_claim_and_an_old_answer_change_nothing():
    group = Group(A, B, C)
    group.members[A].claim(0, group.now, again=True)
    old = group.members[A].take_messages()
    group.claim(A, 1)

    for to, message in old:
        group.deliver(to, message)
    group.claim(B, 1)
    group.members[A].granted(B, 1, 0, True, group.now)

    assert (group.elected(A), group.elected(B)) == (1, 0)


@pytest.mark.parametrize("quorum", [2, 3])
def test_fewer_nodes_than_the_quorum_elect_nobody(quorum):
    group = Group(*[A, B, C][: quorum - 1], quorum=quorum)

    group.claim(A, 1)

    assert group.elected(A) == 0


def test_the_processes_of_one_node_count_once_and_only_if_all_of_them_grant():
    second = pid("b", 2)
    group = Group(A, B, second, quorum=2)
    group.claim(A, 1)
    assert group.elected(A) == 1
    group.claim(A, 0)
    group.members[second].claimed(B, 10_000, 1, group.now)
    group.carry()

    group.claim(A, 1)

    assert group.elected(A) == 0
    assert Group(A, pid("a", 2)).elected(A) == 0


def test_a_process_that_has_started_does_not_count_before_the_time_to_forget():
    group = Group(A, B, old=False)
    group.claim(A, 1)
    assert group.elected(A) == 0

    group.now += HOLD - 0.1
    group.look()
    assert group.elected(A) == 0
    group.now += 0.1
    group.look()

    assert group.elected(A) == 1


def test_with_answers_of_all_nodes_a_process_that_has_started_counts_at_once():
    group = Group(A, B, C, old=False)

    group.claim(A, 1)

    assert group.elected(A) == 1


def test_a_node_with_two_processes_has_answered_when_both_have():
    second = pid("b", 2)
    group = Group(A, B, second, C, quorum=2)
    group.cut.add(second)
    group.members.pop(A)
    again = pid("a", 1, 2)
    group.members[again] = Grants(again, 8, 2, group.now, lease=LEASE, hold=HOLD)
    for each in (B, C):
        group.members[each].joined(again, group.now)
    for each in (B, C, second):
        group.members[again].joined(each, group.now)
    group.members[again].look(group.now)
    group.carry()

    group.members[B].left(C, group.now, ended=True)
    group.claim(B, 1)

    assert group.elected(B) == 0


def test_a_restarted_granter_lets_nobody_take_what_another_one_may_still_hold():
    group = Group(A, B, C)
    group.cut.add(C)  # C cannot help, so A and B are the quorum.
    group.claim(A, 1)
    assert group.elected(A) == 1
    group.cut.add(A)  # A stands still. B starts again, and does not know what it has granted.
    del group.members[B]
    group.cut.remove(C)
    again = pid("b", 1, 2)
    group.start(again)
    for each in (C, again):
        group.members[each].left(A, group.now, ended=False)
    group.members[C].left(B, group.now, ended=True)
    group.claim(C, 1)

    assert group.elected(A) == 1
    assert group.elected(C) == 0


def test_a_node_that_has_started_again_ends_the_grants_of_its_earlier_processes():
    group = Group(A, B, C)
    group.claim(A, 1)
    for each in (B, C):
        group.members[each].left(A, group.now, ended=False)
    del group.members[A]
    group.claim(B, 1)
    assert group.elected(B) == 0

    group.start(pid("a", 1, 2))

    group.look()
    assert group.elected(B) == 1


def test_claims_and_answers_of_unknown_processes_are_ignored():
    group = Group(A, B, C)
    other = pid("x")

    group.members[A].claimed(other, 1, 1, group.now)
    group.members[A].granted(other, 1, 1, True, group.now)
    group.members[A].granted(B, 77, 1, True, group.now)

    assert group.members[A].take_messages() == []
    group.claim(B, 1)
    assert group.elected(B) == 1


def test_many_claims_without_an_answer_are_not_kept():
    group = Group(A, B, C)
    group.cut.add(A)

    for number in range(3 * MAX_ROUNDS):
        group.members[A].claim(number & 1, group.now)
        group.members[A].take_messages()

    assert len(group.members[A]._rounds) == MAX_ROUNDS


@pytest.mark.parametrize("seed", range(30))
def test_in_random_histories_no_two_processes_are_elected_for_a_shard(seed):
    """Nodes claim, stand still, start again, and are lost, while messages of each pair arrive late and in order."""
    chance = random.Random(seed)
    names, quorum = ("abc", 2) if seed % 2 else ("abcde", 3)
    now, creation, number = 100.0, 1, 1
    members, asleep, queues, wants = {}, {}, {}, {}

    def meet(one, other):
        members[one].joined(other, now)

    def start(name):
        nonlocal number
        number += 1
        each = pid(name, number, chance.choice([creation, creation, number]))
        members[each] = Grants(each, 4, quorum, now, lease=LEASE, hold=HOLD)
        wants[each] = 0
        for other in list(members):
            if other != each and other not in asleep:
                meet(each, other)
                queues.setdefault((each, other), []).append(("met",))

    def lose(one, other):
        """Both sides lose the connection, one of them perhaps later. Nothing that was sent before arrives after it."""
        for here, there in ((one, other), (other, one)):
            queues[here, there] = []
            queues.setdefault((there, here), [])
            queues[there, here] = [("lost",), ("met",)] if here in members else []

    for name in names:
        start(name)
    elected_ever = set()
    for _ in range(1_500):
        now += chance.choice([0.0, 0.01, 0.1, 0.5])
        for each in [each for each, until in asleep.items() if now >= until]:
            del asleep[each]
        awake = [each for each in members if each not in asleep]
        match chance.random():
            case x if x < 0.02 and awake:
                asleep[chance.choice(awake)] = now + chance.choice([1.0, 5.0, 9.0])
            case x if x < 0.03 and awake:
                ended = chance.choice(awake)
                del members[ended]
                for other in members:
                    queues[ended, other] = [*queues.get((ended, other), []), ("ended",)]
                    queues.pop((other, ended), None)
                start(ended.node.name[0])
            case x if x < 0.05 and len(members) > 1:
                lose(*chance.sample(list(members), 2))
            case x if x < 0.3 and awake:
                each = chance.choice(awake)
                # A shard is given up only by who has it, or may not have it any more: any set is allowed.
                members[each].claim(chance.randrange(16), now)
            case x if x < 0.6 and awake:
                members[chance.choice(awake)].look(now)
        for each in awake:
            if each in members:
                for to, message in members[each].take_messages():
                    queues.setdefault((each, to), []).append(message)
        for (sender, to), queue in list(queues.items()):
            while queue and to in members and to not in asleep and chance.random() < 0.7:
                message = queue.pop(0)
                shards = int.from_bytes(message[3], "little") if len(message) > 3 else 0
                if message[0] == "met":
                    meet(to, sender)
                elif message[0] in ("lost", "ended"):
                    members[to].left(sender, now, ended=message[0] == "ended")
                elif message[0] is CLAIM:
                    members[to].claimed(message[1], message[2], shards, now)
                else:
                    members[to].granted(message[1], message[2], shards, message[4], now)
        taken = 0
        for grants in members.values():
            shards = grants.elected(now)
            assert not shards & taken, f"two are elected at {now}"
            taken |= shards
        elected_ever |= {each.node for each in members if members[each].elected(now)}
    assert elected_ever
