"""Every script of puts, moves and losses between an outbox and two inboxes ends well."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.sharding.delivery_books import CHOICES, KEYS, World


@pytest.mark.parametrize("stateful", [False, True])
@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, CHOICES - 1), max_size=120))
def test_every_message_arrives_in_order_and_only_settled_ones_are_forgotten(stateful, script):
    world = World(stateful=stateful)
    for choice in script:
        world.step(choice)

    world.finish()


def test_a_world_without_faults_needs_no_replay():
    world = World(stateful=False)
    for _ in range(50):
        for key in KEYS:
            world.put(None, key)
        world.pump()
        for holder in world.holders:
            while holder.requests or holder.open or holder.answers:
                world.request(holder, None)
                world.settle(holder, None)
                world.answer(holder, None)

    assert world.book.kept == 0
    assert world.book.replays == 0
