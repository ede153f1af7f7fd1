"""Stages of Elixir's library gen_stage: consumers and producers of events with back-pressure across nodes.

::

    async with Consumer(node, max_demand=100) as consumer:
        consumer.subscribe((Atom("Elixir.Numbers"), "app@host"))
        async for events in consumer:
            ...

    async with Producer(node, source, name="numbers") as producer:
        await producer.finished()
"""

from __future__ import annotations

from erlmesh.gen_stage.consumer import Batch, Consumer, ProducerSubscription, SubscriptionLost
from erlmesh.gen_stage.producer import Producer

__all__ = ["Batch", "Consumer", "Producer", "ProducerSubscription", "SubscriptionLost"]
