"""Operations on ``global`` names and meshes, the same for BEAMs and Python nodes."""

from erlmesh.terms import Atom
from polling import wait_until

X, PLAYED, YES, NO, UNDEFINED = map(Atom, ("x", "played", "yes", "no", "undefined"))
SPAWN = "spawn(fun() -> receive stop -> ok end end)"
# For Python nodes: processes that store the messages that they receive.
PY_MAILBOXES = """
boxes = {}
async def keep(me):
    boxes[me.pid] = []
    async for message in me:
        boxes[me.pid].append(message)
"""


def is_beam(node):
    return hasattr(node, "otp")


def known_nodes(node):
    if is_beam(node):
        return {name.name for name in node.eval("gen_server:call(global_name_server, get_known)")}
    return set(node.eval("node.global_.known()"))


def is_mesh(nodes):
    names = {node.name for node in nodes}
    return all(node.nodes() | {node.name} == names and known_nodes(node) | {node.name} == names for node in nodes)


def wait_for_mesh(*nodes, seconds=20):
    wait_until(lambda: is_mesh(nodes), seconds, what="a full mesh")


def whereis(node, name=X):
    if is_beam(node):
        pid = node.eval("global:whereis_name(Name__)", Name__=name)
        return None if pid == UNDEFINED else pid
    return node.eval("node.global_.whereis(name)", name=name)


def wait_for_name(pid, *nodes, name=X, seconds=10):
    wait_until(lambda: all(whereis(node, name) == pid for node in nodes), seconds, what=f"{name} as {pid} everywhere")


def spawn(node):
    return node.eval(SPAWN) if is_beam(node) else node.eval("node.spawn(keep)")


def register(node, pid, name=X, method="random_exit_name", timeout=60):
    if is_beam(node):
        call = f"global:register_name(Name__, Pid__, fun global:{method}/3)"
        return node.eval(call, timeout=timeout, Name__=name, Pid__=pid) == YES
    return node.eval(
        "await node.global_.register(name, pid, erlmesh.Export(Atom('global'), Atom(method), 3))",
        timeout=timeout,
        name=name,
        pid=pid,
        method=method,
    )


def sync(node):
    if is_beam(node):
        assert node.eval("global:sync()") == Atom("ok")
    else:
        node.eval("await node.global_.sync()")
