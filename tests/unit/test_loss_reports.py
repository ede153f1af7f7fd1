"""A loss of a node in a mesh: how many reports there are, and how often they are encoded."""

from collections import Counter

import pytest

from erlmesh.etf import EncodedTerm
from erlmesh.runtime.process import LocalProcess
from erlmesh.services.global_.protocol import Atoms
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

SIZE = 12


@pytest.fixture
def reports(monkeypatch):
    """For each node: the reports of a loss that it sends as terms, those it sends encoded, and the encoded terms."""
    counts, send, make = {"plain": Counter(), "encoded": Counter()}, LocalProcess.send, EncodedTerm

    def is_report(message):
        return isinstance(message, tuple) and message[:1] == (Atoms.LOST_CONNECTION,)

    def counting_send(process, to, message, *, connect=True):
        kind = "encoded" if isinstance(message, make) else "plain"
        if is_report(message.term if kind == "encoded" else message):
            counts[kind][process.pid.node] += 1
            if kind == "encoded":
                seen.setdefault(process.pid.node, set()).add(id(message))
                kept.append(message)
        send(process, to, message, connect=connect)

    seen, kept = {}, []
    counts["seen"] = seen
    monkeypatch.setattr(LocalProcess, "send", counting_send)
    return counts


def test_each_node_reports_a_loss_to_each_other_node_and_encodes_it_twice_at_most(reports):
    async def main():
        async with Cluster(1) as cluster:
            nodes = await cluster.mesh(SIZE)
            await cluster.wait_until(lambda: all(len(node.global_.statistics().synced) == SIZE - 1 for node in nodes))
            for count in reports.values():
                count.clear()

            cluster.kill(nodes[-1])
            await cluster.sleep(30)

            assert cluster.is_complete()

    run(main)

    survivors = SIZE - 1
    sent = reports["plain"] + reports["encoded"]
    assert len(sent) == survivors
    assert sent.total() <= survivors * (survivors - 1)
    # The first one is written with the references of its connection. All others are one encoded term.
    assert set(reports["plain"].values()) <= {1}
    assert all(len(terms) == 1 for terms in reports["seen"].values())
    assert reports["encoded"].total() > survivors  # so it matters
