"""What users write, for the type checker alone: it is right where nothing is ignored, and wrong where something is.

An ignore that is not needed is an error, too (``warn_unused_ignores``); so each is a promise that mypy finds the fault.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import assert_type

from erlmesh import (
    NO_REPLY,
    Atom,
    Caller,
    ChildSpec,
    FixedPort,
    GenServer,
    Joined,
    Left,
    Map,
    Node,
    NodeConfig,
    Pid,
    Process,
    Ref,
    SendableTerm,
    Serving,
    ServingClient,
    Supervisor,
    Term,
    expose,
    serving,
)


@expose
def length(text: bytes) -> int:
    return len(text)


@expose(as_="models", name="predict!")
async def predict(me: Process, image: bytes) -> float:
    return float(len(image)) if me.alive else 0.0


assert_type(length(b"four"), int)
still: Callable[[Process, bytes], object] = predict
length("four")  # type: ignore[arg-type]


async def member(me: Process, group: str, *, often: int = 1) -> None:
    for _ in range(often):
        me.node.pg.join(group, me.pid)
    async for message in me:
        match message:
            case (Atom("hello"), Pid() as sender):
                me.send(sender, (Atom("hi"), me.pid))
            case Map() as found:
                me.send(("server", "plato@127.0.0.1"), found)
    numbers: list[int] = [1, 2]
    answer: SendableTerm = {Atom("numbers"): numbers, b"pids": [(me.pid, 1.5, "text", True)]}
    me.send(me.pid, answer)
    me.cast("server", (Atom("add"), numbers))
    me.send(me.pid, None)  # type: ignore[arg-type]
    me.send(me.pid, {1, 2})  # type: ignore[arg-type]
    me.cast("server", (Atom("add"), object()))  # type: ignore[arg-type]
    await me.call("server", {b"key": None})  # type: ignore[dict-item]
    assert_type(await me.spawn_remote("b@127.0.0.1", "lists", "seq", [1, 2]), Pid)
    assert_type(await me.spawn_remote("b@127.0.0.1", "lists", "seq", [1, 2], monitor=True), tuple[Pid, Ref])
    assert_type(me.monitor(me.pid), Ref)
    me.link("server")  # type: ignore[arg-type]


async def changes(node: Node) -> AsyncIterator[tuple[Pid, ...]]:
    async for change in node.pg.watch("greeters"):
        match change:
            case Joined(pids):
                yield pids
            case Left(pids, _reason):
                yield pids


async def main(pid: Pid) -> None:
    options = Node("a@127.0.0.1", cookie="monster", ports=range(9000, 9010), listen=["127.0.0.1", "::1"], hidden=True)
    await options.start()
    Node("a@127.0.0.1", cokie="monster")  # type: ignore[call-arg]
    Node("a@127.0.0.1", hidden="yes")  # type: ignore[arg-type]
    Node("a@127.0.0.1", epmd=4370)  # type: ignore[arg-type]
    Node()  # type: ignore[call-arg]
    NodeConfig("a@127.0.0.1", cokie="monster")  # type: ignore[call-arg]
    assert_type(Node.from_config(NodeConfig("a@127.0.0.1", cookie="monster")), Node)
    async with Node("a@127.0.0.1", epmd=FixedPort(4370), join=["b@127.0.0.1"]) as node:
        assert_type(node, Node)
        assert_type(node.spawn(member, "greeters", often=2, name="member"), Pid)  # type: ignore[call-arg]
        assert_type(node.spawn(member, "greeters", name="member"), Pid)
        assert_type(await node.ping("b@127.0.0.1"), bool)
        names: list[str] = node.nodes()
        assert_type(node.blocked_peers().get(pid.node), float | None)
        assert_type([pid.node in node.nodes() and name in names for name in names], list[bool])
        assert_type(node.whereis("member"), Pid | None)
        assert_type(node.pg.get_members("greeters"), list[Pid])
        await node.rpc("b@127.0.0.1", "lists", "sum", 3)  # type: ignore[arg-type]


class Adder(GenServer):
    def init(self, start: int) -> None:
        self.sum = start

    async def handle_call(self, request: Term, caller: Caller) -> object:
        self.reply(caller, self.sum)
        return NO_REPLY


async def start_adder(me: Process) -> None:
    assert_type(await Adder.start_link(me, 5, name="adder"), Pid)
    await Adder.start_link(me, title="adder")  # type: ignore[call-arg]
    await Adder.start_link("me")  # type: ignore[arg-type]


async def supervise(node: Node) -> None:
    children = [ChildSpec.server(Adder, 5, id="adder"), ChildSpec.process(member, "group", restart="temporary")]
    async with Supervisor.running(node, children, strategy="one_for_all") as supervisor:
        assert_type(supervisor, Pid)
        assert_type(await Supervisor.start_child(node, supervisor, children[0]), Pid)
    await Supervisor.start(node, children, strategy="one_for_some")  # type: ignore[arg-type]
    ChildSpec.process(member, restart="often")  # type: ignore[arg-type]


@serving(batch_size=8, wait=0.0, nx=True)
def embed(texts: list[bytes]) -> list[list[float]]:
    return [[float(len(text))] for text in texts]


@serving
async def spell(texts: list[bytes]) -> AsyncIterator[list[bytes | None]]:
    yield [text[:1] or None for text in texts]


assert_type(embed, Serving)
serving(batch_size="8")  # type: ignore[call-overload]
serving(5)  # type: ignore[call-overload]


async def use_servings(node: Node, me: Process) -> list[ChildSpec]:
    async with embed.running(node) as pid:
        me.link(pid)
        print(await embed.run(me, b"text", timeout=None))
    async for event in ServingClient(node, "spell").stream(b"hi"):
        print(event)
    return [embed.child_spec(), spell.child_spec(restart="transient")]
