"""The nodes and processes of the fake runtime (see ``fake_runtime``), with the interface of the real runtime."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from types import SimpleNamespace

from fake_cluster import decoded

from erlmesh.core.gen import GEN_CALL, GEN_CAST, reply_to
from erlmesh.core.node_counters import NodeCounters
from erlmesh.errors import CalleeExited, CallTimeout, Exit, NoConnection, NoProcess
from erlmesh.terms import Atom, ImproperList, Pid, Ref

NORMAL, KILL, KILLED, NOPROC, NOCONNECTION = map(Atom, ("normal", "kill", "killed", "noproc", "noconnection"))
DOWN, EXIT, PROCESS, NODEUP, NODEDOWN, ALIAS = map(Atom, ("DOWN", "EXIT", "process", "nodeup", "nodedown", "alias"))


class FakeNode:
    def __init__(self, world, name, creation):
        self.world, self.name, self.atom, self.creation = world, name, Atom(name), creation
        self.random = world.random
        self.alive = True
        self.processes: dict[Pid, FakeProcess] = {}
        self.names: dict[Atom, Pid] = {}
        self.links: dict = {}
        self._numbers = itertools.count(100)
        self._refs = itertools.count(1)
        self._monitors: dict[Ref, tuple] = {}  # outgoing: ref → (owner pid, target, node name)
        self._monitor_refs: dict[
            Pid, dict[Ref, tuple[Pid, object]]
        ] = {}  # incoming: target → ref → (watcher, asked as)
        self._waiting: dict[str, list] = {}  # pending connects: done callbacks
        self._outbox: dict[str, list] = {}  # signals waiting for a connection
        self._node_monitors: dict[Pid, bool] = {}
        self._anonymous = None
        self.state = SimpleNamespace(counters=NodeCounters())

    def __repr__(self):
        return self.name

    def now(self):
        return self.world.time

    def is_message_from(self, node):
        return True  # no node of these tests speaks for another

    def is_message_local(self):
        return True

    def make_ref(self):
        return Ref(self.atom, self.creation, (next(self._refs), 0, 0))

    def spawn(self, body, *args, name=None):
        process = FakeProcess(self, name)
        process.start(body, *args)
        return process.pid

    spawn_service = spawn

    def spawn_handler(self, receive, *, name=None, on_end=None, restart=None):
        process = FakeProcess(self, name)
        process._on_end = on_end or restart
        process.handler = receive
        return process

    def register(self, name, pid):
        self.names[Atom(name)] = pid

    def unregister(self, name):
        del self.names[Atom(name)]

    def whereis(self, name):
        return self.names.get(Atom(name))

    def registered(self):
        return [name.name for name in self.names]

    def is_alive(self, pid):
        return pid in self.processes

    def nodes(self, *, hidden=False):
        return list(self.links)

    def is_connected(self, node, *, hidden=True):
        return node.name in self.links

    def monitor_nodes(self, pid, *, reasons=False):
        self._node_monitors[pid] = reasons

    def connect_nowait(self, name, done):
        if name in self.links or name == self.name:
            done(True)
            return
        self._waiting.setdefault(name, []).append(done)
        link = self.world.link(self.name, name)
        if link is None:
            self.world.connect(self.name, name)
        elif self.name in link.disconnected or (link.broken and self.name not in link.up):
            self.world.at(0.001, lambda: self._redial(name))

    def _redial(self, name):
        if not self.alive or name in self.links or name not in self._waiting:
            return
        link = self.world.link(self.name, name)
        if link is None:
            self.world.connect(self.name, name)
        elif link.broken:
            self.world.at(0.001, lambda: self._redial(name))

    def keep_connecting(self, name, *, attempts=None):
        pass

    def disconnect_and_reconnect(self, name, cause=None):
        if name not in self.links:
            return False
        link = self.links[name]
        if not link.broken:
            link.broken = True
            # The local side is down after the current callback, the other side when it notices.
            self.world.at(0, lambda: link.connection_lost(self.name))
            self.world.at(self.random.uniform(0.0005, 0.003), lambda: link.connection_lost(name))
        return True

    def _connected(self, name, *, up):
        for done in self._waiting.pop(name, []):
            done(up)
        if not up:
            for signal in self._outbox.pop(name, []):
                self._undeliverable(signal)

    def _nodeup(self, name, link):
        self.links[name] = link
        self._send_node_event(NODEUP, name)
        self._connected(name, up=True)
        for signal in self._outbox.pop(name, []):
            link.send(self.name, signal)

    def _nodedown(self, name, link):
        if self.links.get(name) is not link:
            return
        del self.links[name]
        for ref, (owner, target, where) in list(self._monitors.items()):
            if where == name:
                del self._monitors[ref]
                self._down(owner, ref, target, NOCONNECTION)
        for watchers in self._monitor_refs.values():
            for ref, (watcher, _) in list(watchers.items()):
                if watcher.node.name == name:
                    del watchers[ref]
        self._send_node_event(NODEDOWN, name)

    def _send_node_event(self, word, name):
        for pid, reasons in self._node_monitors.items():
            message = (
                (word, Atom(name), Atom("connection_closed")) if reasons and word is NODEDOWN else (word, Atom(name))
            )
            self._deliver(pid, message)

    # Signals: ("send", to, message) ("monitor", watcher, target, ref) ("demonitor", watcher, target, ref)
    # ("down", watcher, ref, target, reason) ("exit2", from, to, reason)

    def _signal(self, name, signal, *, connect=True):
        if name == self.name:
            self.world.at(0, lambda: self._receive(name, signal) if self.alive else None)
        elif name in self.links:
            self.links[name].send(self.name, signal)
        elif connect:
            self._outbox.setdefault(name, []).append(signal)
            self.connect_nowait(name, lambda up: None)

    def _undeliverable(self, signal):
        if signal[0] == "monitor":
            _, watcher, target, ref = signal
            if self._monitors.pop(ref, None) is not None:
                self._down(watcher, ref, target, NOCONNECTION)

    def _receive(self, sender, signal):
        match signal:
            case ("send", to, message):
                pid = self.names.get(to) if isinstance(to, Atom) else to
                if pid in self.processes:
                    self.processes[pid].deliver(message)
            case ("monitor", watcher, target, ref):
                asked = target[0] if isinstance(target, tuple) else target
                pid = self.names.get(asked) if isinstance(asked, Atom) else asked
                if pid in self.processes:
                    self._monitor_refs.setdefault(pid, {})[ref] = (watcher, target)
                else:
                    self._signal(sender, ("down", watcher, ref, target, NOPROC), connect=False)
            case ("demonitor", _, _, ref):
                for watchers in self._monitor_refs.values():
                    watchers.pop(ref, None)
            case ("down", watcher, ref, target, reason):
                if self._monitors.pop(ref, None) is not None:
                    self._down(watcher, ref, target, reason)
            case ("exit2", origin, to, reason):
                if to in self.processes:
                    self.processes[to].exit_received(origin, reason)

    def _down(self, owner, ref, target, reason):
        self._deliver(owner, (DOWN, ref, PROCESS, target, reason))

    def _deliver(self, pid, message):
        if pid in self.processes:
            self.processes[pid].deliver(message)

    def _ended(self, process, reason):
        del self.processes[process.pid]
        for name in [name for name, pid in self.names.items() if pid == process.pid]:
            del self.names[name]
        for ref in [ref for ref, (owner, _, _) in self._monitors.items() if owner == process.pid]:
            process.demonitor(ref)
        for ref, (watcher, target) in self._monitor_refs.pop(process.pid, {}).items():
            self._signal(watcher.node.name, ("down", watcher, ref, target, reason), connect=False)
        if process._on_end is not None and self.alive:
            process._on_end()

    # Sent by the node itself

    def send(self, to, message):
        self._anonymous_process().send(to, message)

    async def call(self, to, request, *, timeout=5.0):
        # A call needs a process that receives the reply.
        caller = FakeProcess(self, None)
        try:
            return await _in(caller, caller.call(to, request, timeout=timeout))
        finally:
            if not caller.ended:
                caller.end(NORMAL)

    def _anonymous_process(self):
        if self._anonymous is None or self._anonymous.ended:
            self._anonymous = FakeProcess(self, None)
            self._anonymous.handler = lambda message: None
        return self._anonymous


class _Wait:
    """The awaitable of a process body. It yields itself to the process that runs the body."""

    def __init__(self, process, ready, deadline):
        self.process, self.ready, self.deadline = process, ready, deadline

    def __await__(self):
        return (yield self)


async def _in(process, coroutine):
    return await coroutine


class FakeProcess:
    def __init__(self, node, name):
        self.node = self._ops = node
        self.pid = Pid(node.atom, next(node._numbers), 0, node.creation)
        self.trap_exit = False
        self.ended = False
        self.handler = None
        self._on_end = None
        self._mailbox: deque = deque()
        self._coroutine = None
        self._waits: list[_Wait] = []
        self._queued: deque = deque()
        self._busy = False
        node.processes[self.pid] = self
        if name is not None:
            node.register(name, self.pid)

    def __repr__(self):
        return f"<{self.pid} on {self.node}>"

    # Execution of the body

    def start(self, body, *args):
        def begin():
            if not self.ended:
                self._coroutine = body(self, *args)
                self._step(None)

        self.node.world.at(0, begin)

    def _step(self, wait):
        if self.ended:
            return
        try:
            awaited = self._coroutine.send(None)
        except StopIteration:
            self.end(NORMAL)
        except Exit as exit_:
            self.end(exit_.reason)
        except Exception as error:
            self.node.world.failures.append(error)
            self.end(Atom("error"))
        else:
            self._park(awaited)

    def _park(self, wait):
        wait.resume = self
        owner = wait.process
        world = self.node.world
        owner._waits.append(wait)

        def fire():
            if wait in owner._waits:
                owner._waits.remove(wait)
                self._step(wait)

        wait.fire = fire
        if wait.ready():
            world.at(0, fire)
        elif wait.deadline is not None:
            world.at(max(0.0, wait.deadline - world.time), fire)

    def deliver(self, message):
        if self.ended:
            return
        if self.handler is not None:
            self._queued.append(message)
            if not self._busy:
                self._busy = True
                self.node.world.at(0, self._serve)
            return
        self._mailbox.append(message)
        for wait in list(self._waits):
            if wait.ready():
                self.node.world.at(self.node.random.uniform(0, 0.0003), wait.fire)

    def _serve(self):
        if self.ended:
            return
        message = self._queued.popleft()
        try:
            self.handler(message)
        except Exception as error:
            self.node.world.failures.append(error)
        if self._queued:
            self.node.world.at(0, self._serve)
        else:
            self._busy = False

    def end(self, reason):
        if self.ended:
            return
        self.ended = True
        if self._coroutine is not None:
            with contextlib.suppress(RuntimeError, ValueError):
                self._coroutine.close()
        self.node._ended(self, reason)

    stop = end

    def exit_received(self, origin, reason):
        if reason is KILL:
            self.node.world.at(0, lambda: self.end(KILLED))
        elif self.trap_exit:
            self.deliver((EXIT, origin, reason))
        elif reason is not NORMAL:
            self.node.world.at(0, lambda: self.end(reason))

    # Interface of a process

    def send(self, to, message, *, connect=True):
        message = decoded(message)
        if isinstance(to, tuple):
            name, where = to
            self.node._signal(Atom(where).name, ("send", Atom(name), message), connect=connect)
        elif isinstance(to, Pid):
            current = to.node.name != self.node.name or to.creation == self.node.creation
            if current:
                self.node._signal(to.node.name, ("send", to, message), connect=connect)
        elif isinstance(to, Ref):
            pass  # an unknown alias
        else:
            self.node._signal(self.node.name, ("send", Atom(to), message))

    def cast(self, to, message, *, connect=True):
        self.send(to, (GEN_CAST, message), connect=connect)

    def reply(self, caller, answer):
        self.send(reply_to(caller), (caller[1], answer))

    def monitor(self, target):
        ref = self.node.make_ref()
        if isinstance(target, tuple):
            where, asked = Atom(target[1]).name, (Atom(target[0]), Atom(target[1]))
        elif isinstance(target, Pid):
            where, asked = target.node.name, target
        else:
            where, asked = self.node.name, (Atom(target), self.node.atom)
        self.node._monitors[ref] = (self.pid, asked, where)
        self.node._signal(where, ("monitor", self.pid, asked, ref))
        return ref

    def demonitor(self, ref, *, flush=False):
        found = self.node._monitors.pop(ref, None)
        if found is not None:
            _, target, where = found
            self.node._signal(where, ("demonitor", self.pid, target, ref), connect=False)
        if flush:
            for messages in (self._mailbox, self._queued):
                for message in [m for m in messages if isinstance(m, tuple) and m[:2] == (DOWN, ref)]:
                    messages.remove(message)
        return found is not None

    def exit(self, to, reason):
        self.node._signal(to.node.name, ("exit2", self.pid, to, reason))

    def spawn(self, body, *args, name=None, link=False):
        return self.node.spawn(body, *args, name=name)

    def register(self, name):
        self.node.register(name, self.pid)

    def receive_nowait(self, match=None):
        for message in self._mailbox:
            if match is None or match(message):
                self._mailbox.remove(message)
                return message
        return None

    async def receive(self, match=None, *, timeout=None):
        deadline = None if timeout is None else self.node.now() + timeout

        def ready():
            return any(match is None or match(message) for message in self._mailbox)

        while True:
            for index, message in enumerate(self._mailbox):
                if match is None or match(message):
                    del self._mailbox[index]
                    return message
            if deadline is not None and self.node.now() >= deadline:
                raise TimeoutError
            await _Wait(self, ready, deadline)

    def __aiter__(self):
        return self

    async def __anext__(self):
        return await self.receive()

    async def sleep(self, seconds):
        await _Wait(self, lambda: False, self.node.now() + seconds)

    def send_after(self, seconds, message):
        timer = FakeTimer()
        self.node.world.at(seconds, lambda: None if timer.cancelled else self.deliver(message))
        return timer

    async def call(self, to, request, *, timeout=5.0):
        ref = self.monitor(to)
        tag = ImproperList((ALIAS,), ref)
        self.send(to, (GEN_CALL, (self.pid, ref), request))
        try:
            answer = await self.receive(
                lambda m: isinstance(m, tuple) and (m[0] == ref or m[0] == tag or m[:2] == (DOWN, ref)), timeout=timeout
            )
        except TimeoutError:
            self.demonitor(ref, flush=True)
            raise CallTimeout(f"no answer within {timeout} s") from None
        self.demonitor(ref, flush=True)
        match answer:
            case (Atom("DOWN"), _, _, _, reason):
                if reason is NOPROC:
                    raise NoProcess(str(to))
                if reason is NOCONNECTION:
                    raise NoConnection(str(to))
                raise CalleeExited(str(to), reason)
            case (_, value):
                return value


class FakeTimer:
    cancelled = False

    def cancel(self):
        self.cancelled = True
