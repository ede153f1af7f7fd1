"""The services of a node: a member of the cluster sends them any terms, and exit signals.

The input is an encoded list of actions. Each action is one of

* ``{send, Name, Message}`` or ``{send, Number, Message}``: to a registered name, or to the process with a small number;
* ``{exit, Name, Reason}``: an exit signal to the process with that name;
* ``{spawn, Module, Function, Arguments}``: a spawn request;
* ``{wait, Milliseconds}``: virtual time passes, at most a minute.

These atoms in a message stand for identifiers that differ in each run: ``$self``, ``$other`` and ``$pg`` are the pids
of the sender, of a process of another member, and of the victim's ``pg``; ``$ref`` is a new reference; ``$sender``,
``$victim`` and ``$bystander`` are the names of the nodes.

Afterwards the victim must still serve a third node: it answers pings, and its groups change and are seen. No exception
reached the floor that protects the event loop.
"""

import contextlib
import io
import logging
from typing import Self

from erlmesh import Process
from erlmesh.errors import ErlmeshError
from erlmesh.etf import decode
from erlmesh.terms import Atom, ImproperList, Map, Pid, Term
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run as run_loop
from fuzz.service_words import NAMES

MAX_ACTIONS = 40
MAX_WAIT = 60_000


class FaultRecorder(logging.Handler):
    """Records the exceptions that the log of erlmesh or asyncio tells about."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        # A process that a spawn request starts may end with an error of Erlang's, which is logged, as on a BEAM.
        if error is not None and not isinstance(error, ErlmeshError):
            self.faults.append(logging.Formatter().format(record))

    def __enter__(self) -> Self:
        for name in ("erlmesh", "asyncio"):
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("erlmesh", "asyncio"):
            logging.getLogger(name).removeHandler(self)


class Filler:
    """Replaces the atoms that stand for identifiers."""

    def __init__(self, me: Process, other: Pid, victim: Atom) -> None:
        self._me = me
        self._values: dict[Atom, Term] = {
            Atom("$self"): me.pid,
            Atom("$other"): other,
            Atom("$pg"): other,
            Atom("$sender"): Atom(me.node.name),
            Atom("$victim"): victim,
            Atom("$bystander"): other.node,
        }

    def set_pg(self, pid: Pid) -> None:
        self._values[Atom("$pg")] = pid

    def fill(self, term: Term) -> Term:
        """Return the term with identifiers. Terms are shallow here: the decoder's own target tries deep ones."""
        match term:
            case Atom("$ref"):
                return self._me.node.internals.make_ref()
            case Atom():
                return self._values.get(term, term)
            case tuple():
                return tuple(self.fill(item) for item in term)
            case list():
                return [self.fill(item) for item in term]
            case ImproperList():
                return ImproperList(tuple(self.fill(item) for item in term.elements), self.fill(term.tail))
            case Map():
                return Map((self.fill(key), self.fill(value)) for key, value in term.items())
        return term


def parse(data: bytes) -> list[tuple[Term, ...]]:
    """Return the actions in the input; none if it is not a list of tuples."""
    try:
        actions = decode(data)
    except ErlmeshError:
        return []
    if not isinstance(actions, list):
        return []
    return [action for action in actions[:MAX_ACTIONS] if isinstance(action, tuple)]


async def act(cluster: Cluster, me: Process, victim: Atom, action: tuple[Term, ...], filler: Filler) -> None:
    """Do one action. What the sender's own node refuses to send is skipped."""
    match action:
        case (Atom("wait"), int() as milliseconds):
            await cluster.sleep(min(max(milliseconds, 0), MAX_WAIT) / 1000)
        case (Atom("send"), Atom() as name, message):
            me.send((name, victim), filler.fill(message))
        case (Atom("send"), int() as number, message) if 0 < number < 200:
            me.send(Pid(victim, number, 0, creation_of(cluster, victim)), filler.fill(message))
        case (Atom("exit"), Atom() as name, reason):
            process = cluster.node(victim.name).whereis(name)
            if process is not None:
                me.exit(process, filler.fill(reason))
        case (Atom("spawn"), Atom() as module, Atom() as function, list() as arguments):
            me.node.internals.spawn_remote_nowait(
                victim, module, function, [filler.fill(argument) for argument in arguments]
            )


def creation_of(cluster: Cluster, name: Atom) -> int:
    return cluster.node(name.name).internals.creation


async def check_victim(cluster: Cluster, name: str, bystander: str) -> None:
    """Assert that the victim serves the third node: pings, groups and calls."""
    third = cluster.node(bystander)
    pinged: list[bool] = []

    async def ping(_me: Process) -> None:
        while not any(pinged):  # a report of a lost connection may end this one, as between BEAMs
            pinged.append(await third.ping(name))
            await cluster.sleep(1)

    def resume() -> None:
        for service in NAMES:  # a member may suspend them with ``sys``, on a BEAM as here
            tag = third.internals.make_ref()
            third.send((service, name), (Atom("system"), (Pid(Atom(bystander), 1, 0, 1), tag), Atom("resume")))

    resume()
    third.spawn(ping)
    await cluster.wait_until(lambda: any(pinged), description="the victim answers a ping")
    victim = cluster.node(name)

    async def member(me: Process) -> None:
        victim.pg.join("fuzz", me.pid)
        await me.receive()

    pid = victim.spawn(member)
    await cluster.wait_until(lambda: pid in third.pg.get_members("fuzz"), description="a join is seen")


async def run_actions(actions: list[tuple[Term, ...]]) -> None:
    """Run the actions in a new cluster of three nodes."""
    async with Cluster(seed=7) as cluster:
        victim, sender, bystander = await cluster.mesh(3)

        async def idle(me: Process) -> None:
            async for _ in me:
                pass

        other = bystander.spawn(idle)
        done: list[None] = []

        async def attacker(me: Process) -> None:
            filler = Filler(me, other, Atom(victim.name))
            if (pg := victim.whereis("pg")) is not None:
                filler.set_pg(pg)
            for action in actions:
                try:
                    await act(cluster, me, Atom(victim.name), action, filler)
                except (ErlmeshError, RecursionError, ValueError, TypeError):
                    continue
            done.append(None)
            await me.receive()

        sender.spawn(attacker)
        await cluster.wait_until(
            lambda: bool(done), description="the actions are done", timeout=60.0 * MAX_ACTIONS + 60
        )
        await cluster.sleep(2)
        await check_victim(cluster, victim.name, bystander.name)


def run(data: bytes) -> None:
    """Run the actions of the input, and check the victim."""
    actions = parse(data)
    if not actions:
        return
    with FaultRecorder() as recorder, contextlib.redirect_stdout(io.StringIO()):  # `user` prints
        run_loop(lambda: run_actions(actions))
    assert not recorder.faults, recorder.faults[0]
