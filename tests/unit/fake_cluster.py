"""Nodes without a network, an event loop or a clock, for tests that deliver single signals in a chosen order.

The services under test see the interface of the runtime. Signals wait in one queue for each ordered pair of nodes.
:meth:`Cluster.run` delivers them until the queues are empty. ``random`` chooses the next pair, so a seed determines the
schedule. The order within a pair is kept.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from types import SimpleNamespace, coroutine

from erlmesh.core import gen
from erlmesh.core.exit_reasons import KILL
from erlmesh.core.node_counters import NodeCounters
from erlmesh.errors import CalleeExited, NoProcess
from erlmesh.etf import EncodedTerm
from erlmesh.terms import Atom, Pid, Ref

DOWN, PROCESS, NOPROC, NOCONNECTION, NORMAL, KILLED = (
    Atom(word) for word in ("DOWN", "process", "noproc", "noconnection", "normal", "killed")
)


@coroutine
def wait():
    yield


def decoded(message):
    """The term that the receiver of ``message`` gets."""
    return message.term if isinstance(message, EncodedTerm) else message


class FakeFuture:
    def __init__(self):
        self._done = False

    def done(self):
        return self._done

    def set_result(self, _):
        self._done = True

    def __await__(self):
        while not self._done:
            yield


class Cluster:
    def __init__(self, seed=0):
        self.random = random.Random(seed)
        self.nodes = {}
        self.queues = defaultdict(deque)
        self.links = set()
        self.tasks = []
        self.sent = []

    def node(self, name, creation=1):
        node = FakeNode(self, name, creation)
        self.nodes[name] = node
        return node

    def connect(self, a, b):
        link = frozenset((a.name, b.name))
        assert link not in self.links
        self.links.add(link)
        a.node_event("nodeup", b.name)
        b.node_event("nodeup", a.name)

    def cut(self, a, b):
        """Break the connection of a and b. Both nodes notice it at once, and signals in flight are lost."""
        self.links.discard(frozenset((a.name, b.name)))
        for one, other in ((a, b), (b, a)):
            self.queues.pop((other.name, one.name), None)
            one.connection_lost(other.name)

    def crash(self, node):
        """Kill the node, as SIGKILL does."""
        node.alive = False
        del self.nodes[node.name]
        self.queues.pop((node.name, node.name), None)
        for name in node.nodes():
            self.cut(node, self.nodes[name])

    def put(self, source, target, signal, *args):
        if source.name == target or frozenset((source.name, target)) in self.links:
            self.queues[source.name, target].append((signal, *args))
            return True
        return False

    def step(self):
        ready = [pair for pair, queue in self.queues.items() if queue]
        if not ready:
            return False
        pair = self.random.choice(ready)
        signal, *args = self.queues[pair].popleft()
        node = self.nodes.get(pair[1])
        if node:
            getattr(node, signal)(*args)
        return True

    def run(self, body=None):
        """Deliver all signals. If there is a ``body``, await it until it ends, and return its value."""
        if body is None:
            while self._turn():
                pass
            return None
        done = []

        async def outer():
            done.append(await body)

        task = outer().__await__()
        self.tasks.append(task)
        while not done:
            assert self._turn() or done, "all tasks wait"
        return done[0]

    def start(self, body):
        """Run ``body`` concurrently with the test. Returns a list that gets its value."""
        done = []

        async def outer():
            done.append(await body)

        self.tasks.append(outer().__await__())
        return done

    def _turn(self):
        moved = self.step()
        for task in list(self.tasks):
            before = len(self.sent), sum(map(len, self.queues.values()))
            ended = True
            try:
                next(task)
                ended = False
            except StopIteration:
                moved = True
            finally:
                if ended and task in self.tasks:
                    self.tasks.remove(task)
            moved = moved or before != (len(self.sent), sum(map(len, self.queues.values())))
        return moved


class FakeNode:
    def __init__(self, cluster, name, creation):
        self.cluster, self.name, self.atom, self.creation = cluster, name, Atom(name), creation
        self.random = cluster.random
        self.processes = {}
        self.names = {}
        self.monitors = {}
        self.node_monitors = []
        self.number = 100
        self.alive = True
        self.state = SimpleNamespace(counters=NodeCounters())

    def last_disconnect_reason(self, name):
        return None

    def call_after_read(self, callback, *arguments):
        self.cluster.put(self, self.name, "run", callback, *arguments)

    def run(self, callback, *arguments):
        callback(*arguments)

    def create_wait(self):
        return FakeFuture()

    def nodes(self):
        return [name for name in self.cluster.nodes if frozenset((self.name, name)) in self.cluster.links]

    def is_message_from(self, node):
        return True  # no node of these tests speaks for another

    def is_message_local(self):
        return True

    def is_connected(self, node, *, hidden=True):
        return node.name in self.nodes()

    def make_ref(self):
        self.number += 1
        return Ref(self.atom, self.creation, (self.number, 0, 0))

    def process(self, name=None):
        self.number += 1
        me = FakeProcess(self, Pid(self.atom, self.number, 0, self.creation))
        self.processes[me.pid] = me
        if name:
            assert name not in self.names
            self.names[name] = me.pid
        return me

    def spawn_handler(self, receive, *, name=None, on_end=None, restart=None):
        me = self.process(name)
        me._handler = receive
        return me

    def spawn(self, body, *args, name=None):
        me = self.process(name)

        async def run_body():
            await body(me, *args)
            self.end(me.pid, NORMAL)

        me._task = run_body().__await__()
        self.cluster.tasks.append(me._task)
        return me.pid

    spawn_service = spawn

    def monitor_nodes(self, pid, *, reasons=False):
        self.node_monitors.append(pid)

    def node_event(self, event, name):
        for pid in self.node_monitors:
            if pid in self.processes:
                self.processes[pid].take((Atom(event), Atom(name)))

    async def call(self, to, request, timeout=5.0):
        me = self.process()
        ref = me.monitor(to)
        me.send(to, (gen.GEN_CALL, (me.pid, ref), request))
        while True:
            match await me.receive():
                case (Ref() as tag, answer) if tag == ref:
                    return answer
                case (Atom("DOWN"), _, _, _, Atom("noproc")):
                    raise NoProcess("noproc")
                case (Atom("DOWN"), _, _, _, reason):
                    raise CalleeExited("it died", reason)

    # Signals

    def end(self, pid, reason=KILLED):
        me = self.processes.pop(pid, None)
        if me is None:
            return
        if me._task in self.cluster.tasks:
            self.cluster.tasks.remove(me._task)
        self.names = {name: owner for name, owner in self.names.items() if owner != pid}
        for ref, (watcher, target) in list(self.monitors.items()):
            if target == pid:
                del self.monitors[ref]
                self.down(watcher, ref, pid, reason)

    def down(self, watcher, ref, pid, reason):
        self.cluster.put(self, watcher.node.name, "deliver", watcher, (DOWN, ref, PROCESS, pid, reason), ref)

    def connection_lost(self, name):
        """Handle a lost connection completely, before a new one can be made."""
        for ref, (watcher, _) in list(self.monitors.items()):
            if watcher.node.name == name:
                del self.monitors[ref]
        for pid in list(self.processes):
            for ref, target in list(self.processes[pid].refs.items()):
                where = target.node if isinstance(target, Pid) else target[1]
                if where.name == name:
                    self.deliver(pid, (DOWN, ref, PROCESS, target, NOCONNECTION), ref)
        self.node_event("nodedown", name)

    def monitor(self, watcher, ref, target):
        pid = self.names.get(target[0]) if isinstance(target, tuple) else target
        if pid in self.processes:
            self.monitors[ref] = (watcher, pid)
        else:
            self.down(watcher, ref, target, NOPROC)

    def demonitor(self, ref):
        self.monitors.pop(ref, None)

    def deliver(self, to, message, ref=None):
        pid = self.names.get(to) if isinstance(to, Atom) else to
        me = self.processes.get(pid)
        if me and (ref is None or me.refs.pop(ref, None) is not None):
            me.take(message)


class FakeProcess:
    def __init__(self, node, pid):
        self.node, self._ops, self.pid = node, node, pid
        self.trap_exit = False
        self._mailbox = deque()
        self._handler = None
        self._task = None
        self.refs = {}

    @property
    def alive(self):
        return self.pid in self.node.processes

    def stop(self, reason=NORMAL):
        self.node.end(self.pid, reason)

    def take(self, message):
        if self._handler:
            self._handler(message)
        else:
            self._mailbox.append(message)

    def send(self, to, message, *, connect=True):
        message = decoded(message)
        name, where = to if isinstance(to, tuple) else (to, to.node if isinstance(to, (Pid, Ref)) else self.node.atom)
        self.node.cluster.sent.append((self.pid, to, message))
        self.node.cluster.put(self.node, where.name, "deliver", name, message)

    def cast(self, to, message, *, connect=True):
        self.send(to, gen.cast(message), connect=connect)

    def reply(self, caller, answer):
        self.send(gen.reply_to(caller), (caller[1], answer))

    def monitor(self, target):
        ref = self.node.make_ref()
        self.refs[ref] = target
        where = target.node if isinstance(target, Pid) else target[1]
        if not self.node.cluster.put(self.node, where.name, "monitor", self.pid, ref, target):
            self.node.cluster.put(
                self.node, self.node.name, "deliver", self.pid, (DOWN, ref, PROCESS, target, NOCONNECTION), ref
            )
        return ref

    def demonitor(self, ref, *, flush=False):
        target = self.refs.pop(ref, None)
        if target is not None:
            where = target.node if isinstance(target, Pid) else target[1]
            self.node.cluster.put(self.node, where.name, "demonitor", ref)
        return target is not None

    def exit(self, to, reason):
        reason = KILLED if reason is KILL else reason
        self.node.cluster.put(self.node, to.node.name, "end", to, reason)

    async def receive(self, match=None, *, timeout=None):
        while True:
            for index, message in enumerate(self._mailbox):
                if match is None or match(message):
                    del self._mailbox[index]
                    return message
            await wait()
