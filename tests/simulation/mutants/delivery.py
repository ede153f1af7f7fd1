"""Wrong versions of acknowledged delivery, each with the history that finds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from simulation.mutants.mutation import Mutant
from simulation.sharding import delivery_scenario as histories

__all__ = ["DELIVERY_MUTANTS"]

OUTBOX = "erlmesh.core.sharding.outbox_book:OutboxBook."
INBOX = "erlmesh.core.sharding.inbox_book:InboxBook."

DELIVERY_MUTANTS: list[tuple[Mutant, Callable[[], Awaitable[object]]]] = [
    (
        Mutant(
            OUTBOX + "refused",
            "a refusal does not return credit",
            "stream.holder.kept -= 1",
            "pass",
        ),
        histories.many_refusals,
    ),
    (
        Mutant(
            OUTBOX + "refused",
            "a refused message counts as sent for ever",
            "stream.holder.sent -= 1",
            "pass",
        ),
        histories.many_refusals,
    ),
    (
        Mutant(
            OUTBOX + "_assign",
            "what is sent again is out of order",
            "stream.holder = holder\n",
            "stream.holder = holder\n        stream.messages.rotate(1)\n",
        ),
        histories.holder_is_killed,
    ),
    (
        Mutant(
            OUTBOX + "_assign",
            "another holder does not get what the lost one had",
            "self._unsend(stream, 0)",
            "stream.holder.sent -= stream.sent",
        ),
        histories.holder_is_killed,
    ),
    (
        Mutant(
            OUTBOX + "next_send",
            "a holder gets more than its credit",
            "holder.sent < self.credit",
            "True",
        ),
        histories.holder_is_killed,
    ),
    (
        Mutant(
            OUTBOX + "move",
            "everything is sent again at each change",
            "if holder is not stream.holder:",
            "if True:",
        ),
        histories.holder_is_killed,
    ),
    (
        Mutant(
            OUTBOX + "probe",
            "what stands still is sent again as a whole",
            "found.append((stream, stream.base, stream.messages[0]))",
            "found.extend((stream, stream.base + at, each) for at, each in enumerate(stream.messages))",
        ),
        histories.pause_below_the_tick_time,
    ),
    (
        Mutant(
            INBOX + "take_answers",
            "a message is acknowledged before it is done",
            "entry.settled, None))",
            "entry.last, None))",
        ),
        histories.holder_is_killed,
    ),
    (
        Mutant(
            INBOX + "put",
            "what comes twice is handed out twice",
            "if entry.started and number <= entry.last:",
            "if False:",
        ),
        histories.a_holder_returns_at_once,
    ),
    (
        Mutant(
            INBOX + "put",
            "`wait` is the answer to every message",
            "if entry.repeats:",
            "if True:",
        ),
        histories.a_holder_returns_and_misses_numbers,
    ),
    (
        Mutant(
            INBOX + "put",
            "an inbox that misses numbers does not say `go`",
            "self._go(node, entry)",
            "pass",
        ),
        histories.a_holder_returns_and_misses_numbers,
    ),
    (
        Mutant(
            INBOX + "put",
            "what was sent before `wait` was heard is taken",
            "if not begins and (entry.run > entry.last or not self.acts):",
            "begins = True\n            if False:",
        ),
        histories.state_moves,
    ),
    (
        Mutant(
            INBOX + "dump",
            "the last number is not part of the state",
            "if entry.started",
            "if False",
        ),
        histories.state_moves,
    ),
    (
        Mutant(
            INBOX + "_go",
            "what the state contains already is not acknowledged after `go`",
            "self._changed[entry] = None",
            "pass",
        ),
        histories.state_moves,
    ),
    (
        Mutant(
            OUTBOX + "is_from_holder",
            "an acknowledgement of a holder before counts",
            "stream.holder.pid.node is node",
            "True",
        ),
        histories.state_moves,
    ),
    (
        Mutant(
            "erlmesh.services.sharding.inbox:Inbox._close_if_done",
            "an inbox that stops does not wait for its open messages",
            "not self._book.open",
            "True",
        ),
        histories.a_holder_stops_in_order,
    ),
]
