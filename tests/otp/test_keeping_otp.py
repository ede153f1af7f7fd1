"""State in shards on Python nodes in operating system processes: killed, paused, and stopped in order."""

import pytest

from polling import wait_until

pytestmark = pytest.mark.otp

KEYS = [f"key {number}" for number in range(8)]
KEEPER = """
class Numbers:
    all_or_nothing = True

    def new(self, key):
        return set()

    def apply(self, state, message, at):
        assert (at.source, at.number) not in state
        state.add((at.source, at.number))

    def merge(self, ours, theirs):
        return ours | theirs

    def dump(self, state):
        return list(state)

    def load(self, pieces):
        return set(pieces)

async def keep():
    global shards, outbox
    shards = node.shards("numbers", shards=8, settle=0.3, keeper=Numbers())
    outbox = node.outbox("ticks", shards=shards)
    async with shards:
        async for _ in shards:
            pass

async def put(count):
    for number in range(count):
        for key in KEYS:
            await outbox.put(key, number)

def begin(count):
    globals()["putting"] = asyncio.create_task(put(count))

def stop():
    globals()["stopping"] = asyncio.ensure_future(node.stop())

def numbers(source):
    return {key: {number for origin, number in shards.state(key) if origin == source} for key in KEYS
            if shards.state(key) is not None}

globals()["keeping"] = asyncio.create_task(keep())
"""


class Keepers:
    """Some nodes that keep states. The last one is the source."""

    def __init__(self, cluster, names, **options):
        self.nodes = [cluster.pynode(name, **options) for name in names]
        self.source = self.nodes[-1]
        self.sent = 0
        for node in self.nodes[1:]:
            assert node.ping(self.nodes[0].name)
        for node in self.nodes:
            wait_until(lambda node=node: len(node.nodes()) == len(self.nodes) - 1)
            node.eval(KEEPER, KEYS=KEYS)
        wait_until(self.has_backups)

    def has_backups(self):
        """All take part, and each key has a holder with a backup. A node alone acknowledges without a backup."""
        members = "len(node.pg.get_members((b'erlmesh_shards', b'numbers')))"
        if any(node.eval(members) != len(self.nodes) for node in self.nodes):
            return False
        backups = [node.eval("[bool(shards.backups(key)) for key in KEYS]") for node in self.nodes]
        return self.holders() is not None and all(map(any, zip(*backups, strict=True)))

    def holders(self):
        """The node of each key, if each node names the same one, and it acts. None otherwise."""
        found = [
            node.eval("[shards.holder(key) and shards.holder(key).node.name for key in KEYS]") for node in self.nodes
        ]
        return found[0] if all(each == found[0] for each in found) and all(found[0]) else None

    def begin(self, count):
        self.sent += count
        self.source.eval("begin(COUNT)", COUNT=count)

    def flushed(self):
        return self.source.eval("putting.done() and putting.result() is None and outbox.kept == 0")

    def check(self):
        """Each message is in the state of one holder."""
        source = self.source.eval("outbox.source")
        wait_until(self.flushed, 60)
        expected = {key: set(range(1, self.sent + 1)) for key in KEYS}
        wait_until(lambda: self.states(source) == expected, details=lambda: self.differences(source, expected))

    def differences(self, source, expected):
        """What is missing, for a failure: numbers by key, and who holds the shard."""
        states = self.states(source)
        return self.holders(), {
            key: sorted(expected[key] ^ states.get(key, set()))[:20] for key in KEYS if states.get(key) != expected[key]
        }

    def states(self, source):
        merged = {}
        for node in self.nodes:
            merged.update(node.eval("numbers(SOURCE)", SOURCE=source))
        return merged


def test_nothing_is_lost_when_a_holder_is_killed_under_load(cluster):
    keepers = Keepers(cluster, ["socrates", "aristotle", "zeno", "plato"])
    keepers.begin(300)
    victim = next(node for node in keepers.nodes[:-1] if node.name in keepers.holders())
    keepers.nodes.remove(victim)
    victim.kill()

    keepers.check()


def test_a_node_that_is_stopped_in_order_leaves_its_states_to_others(cluster):
    keepers = Keepers(cluster, ["socrates", "aristotle", "plato"])
    keepers.begin(200)

    first = keepers.nodes.pop(0)
    first.eval("asyncio.get_running_loop().call_later(0.1, stop) and None")

    keepers.check()


def test_a_holder_that_was_paused_beyond_the_tick_time_gives_its_states_to_others(cluster):
    keepers = Keepers(cluster, ["socrates", "aristotle", "plato"], net_ticktime=4)
    keepers.begin(20)
    keepers.check()
    stale = next((node for node in keepers.nodes[:-1] if node.name in keepers.holders()), keepers.nodes[0])
    others = [node for node in keepers.nodes if node is not stale]

    stale.stop()
    keepers.begin(20)
    wait_until(lambda: all(stale.name not in node.nodes() for node in others))
    wait_until(keepers.flushed)
    stale.cont()

    wait_until(lambda: all(len(node.nodes()) == 2 for node in keepers.nodes), 60)
    wait_until(lambda: keepers.holders() is not None)
    keepers.begin(20)
    keepers.check()
