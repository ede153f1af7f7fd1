"""Clusters of the ``global`` service on the fake runtime, also with peers that use older protocol versions."""

from __future__ import annotations

import itertools

from erlmesh.core.gen import GEN_CALL, GEN_CAST, reply_to
from erlmesh.services.global_.names import GlobalNames
from erlmesh.terms import Atom, Pid

SERVER = Atom("global_name_server")
INIT_CONNECT, LOCK_SET, NEW_NODES, RESOLVED = map(Atom, ("init_connect", "lock_set", "new_nodes", "resolved"))
NEVER_SENT_TO_OLD_NODES = [
    Atom(word) for word in ("init_connect_ack", "cancel_connect", "lost_connection", "remove_connection")
]


def start(world, name, *, vsn=8, **options):
    """Start a node with the service, and with a ``rex`` that resolves conflicts for other nodes."""
    node = world.node(name)
    node.global_ = GlobalNames(node, **options)
    node.server = node.global_._server
    if vsn < 8:
        _speak_old_version(node, vsn)
    rex = node.spawn_handler(lambda message: answer_rex(node, rex, message), name="rex")
    return node


def answer_rex(node, rex, message):
    match message:
        case (kind, (Pid(), _) as caller, (_, Atom("global"), Atom("resolve_it"), [method, name, pid, pid2], _)):
            assert kind is GEN_CALL
            answer = node.global_.resolve_it(method, name, pid, pid2)
            rex.send(reply_to(caller), (caller[1], answer))


def _speak_old_version(node, vsn):
    """Make a node use an old version. It announces ``vsn``, treats peers as equally old, and checks their messages."""
    me, cast, receive = node.server.process, node.server.process.cast, node.server.handle_message

    def cast_as_old(to, message, *, connect=True):
        if message[0] is INIT_CONNECT:
            message = (INIT_CONNECT, (vsn, message[1][1]), *message[2:])
        cast(to, message, connect=connect)

    def receive_as_old(message):
        match message:
            case (kind, (word, (_, tag), *rest)) if kind is GEN_CAST and word is INIT_CONNECT:
                message = (GEN_CAST, (INIT_CONNECT, (vsn, tag), *rest))
            case (kind, (word, *rest)) if kind is GEN_CAST:
                assert word is not LOCK_SET or (vsn > 5 and len(rest) == 3), message
                if vsn < 7:
                    assert word is not RESOLVED or all(isinstance(item, Atom) for item in rest[2]), message
                    assert word is not NEW_NODES or all(isinstance(item, Atom) for item in rest[3]), message
            case (word, *_) if word in NEVER_SENT_TO_OLD_NODES:
                assert vsn == 7, message
                assert word.name not in ("init_connect_ack", "cancel_connect"), message
        receive(message)

    me.cast, me.handler = cast_as_old, receive_as_old
    if vsn < 7:
        node.server.partitions.enabled = False


def is_mesh(nodes):
    """True if all nodes are connected with each other, and global knows it."""
    names = sorted(node.name for node in nodes)
    return all(
        sorted([node.name, *node.global_.known()]) == names and sorted([node.name, *node.nodes()]) == names
        for node in nodes
    )


def is_quiescent(nodes):
    """True if no lock is held and no session is open."""
    return not any(node.server.locks.snapshot() or node.server.sync.sessions() for node in nodes)


def name_tables(nodes):
    """The name table of each node."""
    return [
        sorted((name.name, pid.node.name, pid.id) for name, pid, _ in node.server.names.entries()) for node in nodes
    ]


def edges(nodes, shape, chance):
    names = [node.name for node in nodes]
    if shape == "chain":
        return list(itertools.pairwise(names))
    if shape == "star":
        return [(name, names[0]) for name in names[1:]]
    if shape == "tree":
        return [(names[i], names[chance.randrange(i)]) for i in range(1, len(names))]
    return list(itertools.combinations(names, 2))


async def idle(me):
    """A process that never exits and keeps its messages."""
    me.node.mail = me._mailbox
    await me.receive(lambda message: False)


def cluster(world, names, **options):
    """Start nodes and wait until they are a full mesh."""
    nodes = [start(world, f"{name}@h", **options) for name in names]
    for node in nodes[1:]:
        world.connect(node.name, nodes[0].name)
    world.run(until=lambda: is_mesh(nodes), limit=60)
    return nodes


def spawned(node):
    return node.spawn(idle)


def call_global(world, node, act, *args, **options):
    async def body(me):
        return await getattr(me.node.global_, act)(*args, **options)

    return world.ask(node, body)


def all_resolve(nodes, name, pid):
    return all(node.global_.whereis(name) == pid for node in nodes)
