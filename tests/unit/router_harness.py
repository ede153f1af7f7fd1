"""A router without connections and tasks, and connections that record what is sent."""

import random

from erlmesh.core.identifiers import Identifiers
from erlmesh.proto.control import Send
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.process_ops import NodeProcessOps
from erlmesh.runtime.router import Router
from erlmesh.terms import Atom

__all__ = ["FakePeer", "ProcessWithoutTask", "RouterHarness", "mailbox"]

A, B = Atom("a@h"), Atom("b@h")


class FakePeer:
    """A connection that records the signals to send."""

    def __init__(self):
        self.sent = []
        self.busy = self.overfull = False

    def send(self, signal):
        self.sent.append(signal)

    def send_message(self, sender, to, message):
        self.send(Send(sender, to, message))

    def take(self):
        sent, self.sent = self.sent, []
        return sent


class ProcessWithoutTask(LocalProcess):
    """A process to which a test can add attributes: LocalProcess has slots."""

    received = None


class RouterHarness:
    """A router of the node ``a@h`` with creation 1.

    ``outgoing`` has the nodes with a connection attempt: signals to them are recorded in ``enqueued``.
    """

    def __init__(self):
        self.enqueued = []
        self.outgoing = set()
        self.router = Router(Identifiers(A, 1), self.enqueue)
        self.ops = NodeProcessOps(self.router, random.Random(0), spawn=None, nodes=None, group_leader=None)

    def enqueue(self, node, signal, _size, dial):
        if dial:
            self.outgoing.add(node)
        if node in self.outgoing:
            self.enqueued.append((node, signal))
        return FakePeer() if node in self.outgoing else None

    def connect(self, node=B):
        peer = self.router.peers[node] = FakePeer()
        return peer

    def disconnect(self, node=B):
        del self.router.peers[node]
        self.router.termination.connection_lost(node)

    def process(self, name=None, *, trap=False):
        """A process with a mailbox and no task."""
        process = ProcessWithoutTask(self.ops, self.router.identifiers.pid(self.router.registry.processes), "test")
        process.trap_exit = trap
        self.router.registry.add(process)
        if name is not None:
            self.router.registry.register_name(Atom(name), process)
        return process

    def server(self, receive=None, **options):
        process = self.process(**options)
        process.received = []
        process._handler = receive or process.received.append
        return process

    def receive(self, *signals, peer=B):
        self.router.handle_signals(signals, peer)

    def assert_empty(self):
        """No process, name, alias, link or monitor is left."""
        router = self.router
        assert (len(router.links), len(router.monitors)) == (0, 0)
        assert (router.registry.processes, router.registry.names, router.registry.aliases) == ({}, {}, {})


def mailbox(process):
    return list(process._mailbox)
