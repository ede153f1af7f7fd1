"""The functions that OTP's pg_SUITE runs on its peers, in Python, for peers without a BEAM.

Run it with ``erlmesh start --expose erlmesh.otp_functions --expose pg_suite_peer --app pg_suite_peer:control``. The
suite sends funs. Their code is Erlang and does not arrive. A fun is recognized by its arity and its environment.

:func:`control` serves calls that do not come over the distribution: they come on file descriptor 3, and answers go to
4. Each is a term after its length (4 bytes): ``{Number, [Module, Function, Arguments]}``, and ``{Number, {return,
Value} | {Class, Reason, Stack}}``.
"""

from __future__ import annotations

import asyncio
import os

from erlmesh import Atom, ErlangError, Fun, Pid, Process
from erlmesh.core import gen
from erlmesh.etf import decode, encode
from erlmesh.services.rpc.erpc import run_call
from erlmesh.services.rpc.function_table import FunctionTable
from erlmesh.terms import Ref

EXPOSED = FunctionTable()
OK, KILL, SYSTEM = Atom("ok"), Atom("kill"), Atom("system")
GET_LOG, GET_STATE = (Atom("debug"), (Atom("log"), Atom("get"))), Atom("get_state")


async def control(me: Process) -> None:
    """The app of the node: answers calls until the other end closes."""
    loop = asyncio.get_running_loop()
    requests = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), os.fdopen(3, "rb"))
    answers = os.fdopen(4, "wb")

    def say(term):
        data = encode(term)
        answers.write(len(data).to_bytes(4, "big") + data)
        answers.flush()

    async def call(me, number, what):
        kind, value, stack = await run_call(me, me.node._functions.apply, *what)
        say((number, (kind, value) if kind is Atom("return") else (kind, value, stack)))

    say(Atom("up"))
    while True:
        try:
            size = int.from_bytes(await requests.readexactly(4), "big")
            number, what = decode(await requests.readexactly(size))
        except asyncio.IncompleteReadError:
            return
        me.spawn(call, number, what)


async def run_fun(me: Process, fun, arguments):
    """``erlang:apply/2``: a process that was spawned with a fun of the suite."""
    match fun:
        case Fun(module=Atom("pg_SUITE"), arity=0, free=(Pid(),)):  # forever()
            await asyncio.get_running_loop().create_future()
        case Fun(module=Atom("pg_SUITE"), arity=0, free=(_, _, _, _) as free):
            return await second_monitor(me, *free)
    raise ErlangError(Atom("undef"), [(fun, arguments, [])])


def spawn_fun(me: Process, fun):
    """``erlang:spawn/1``."""
    return me.spawn(run_fun, fun, [])


async def hibernate(_module, _function, _arguments):
    """``erlang:hibernate/3``: how the suite of OTP 27 has a process sleep for ever."""
    await asyncio.get_running_loop().create_future()


async def second_monitor(me, *free):
    """Monitors the scope or the group, tells its controller, and keeps all events until it is asked for them, once."""
    group, (scope, control) = group_and_pids(free)
    scope_wanted = group == 1  # the two cases that do so name groups so
    if int(os.environ["PG_SUITE_OTP"]) < 29:
        request = Atom("monitor") if scope_wanted else (Atom("monitor"), group)
    else:
        request = (Atom("subscribe"), Atom("scope") if scope_wanted else (Atom("group"), group))
    ref, known = await me.call(scope, request)
    assert (dict(known)[group] if scope_wanted else known) == [control]
    me.send(control, (me.pid, ref))
    events = []
    async for message in me:
        match message:
            case (gen.GEN_CALL, caller, Atom("flush")):
                me.reply(caller, events)
                return
            case _:
                events.append(message)


def group_and_pids(free):
    group = next(value for value in free if not isinstance(value, (Pid, Fun)))
    return group, [value for value in free if isinstance(value, Pid)]


async def stop_proc(me: Process, pid):
    """``pg_SUITE:stop_proc/1``."""
    ref = me.monitor(pid)
    me.exit(pid, KILL)
    await me.receive(lambda message: message[1] == ref)
    return OK


async def ensure_peers_info(me: Process, scope, nodes):
    """``pg_SUITE:ensure_peers_info/2``: all servers have dealt with what was sent before."""
    await ask_system(me, scope, GET_LOG)
    for node in nodes:
        await ask_system(me, (scope, node), GET_LOG)
    await ask_system(me, scope, GET_LOG)
    return OK


async def replace_state(me: Process, _name, fun):
    """``sys:replace_state/2``, which the suite uses to have one server ask another for its state, and so to wait for
    it.
    """
    match fun:
        case Fun(module=Atom("pg_SUITE"), arity=1, free=(Atom() as name, Atom() as node)):
            await ask_system(me, (name, node) if me.node.whereis(name) else (node, name), GET_STATE)
            return OK
    raise ErlangError(Atom("undef"))


async def ask_system(me, server, request):
    """A request of ``sys``."""
    ref = me.monitor(server)
    me.send(server, (SYSTEM, (me.pid, ref), request))

    def answers(message):
        return isinstance(message, tuple) and isinstance(message[0], (Ref, Atom)) and ref in message[:2]

    answer = await me.receive(answers, timeout=5.0)
    me.demonitor(ref, flush=True)
    return answer


EXPOSED.add(run_fun, "erlang", "apply")
EXPOSED.add(hibernate, "erlang")
EXPOSED.add(spawn_fun, "erlang", "spawn")
EXPOSED.add(stop_proc, "pg_SUITE")
EXPOSED.add(ensure_peers_info, "pg_SUITE")
EXPOSED.add(replace_state, "sys")
