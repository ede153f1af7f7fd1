"""A member that is hostile or faulty does not fill the memory of a node: it asks and does not read, or never ends.

The member is a raw socket with the handshake of this package. The node runs in another operating system process, whose
memory is measured.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import erlmesh
from erlmesh.core.gen import GEN_CALL, GEN_CAST
from erlmesh.proto.channel import Channel
from erlmesh.proto.control import Send, SendName, SpawnRequest
from erlmesh.proto.flags import OFFERED
from erlmesh.proto.handshake import LocalNode, initiate
from erlmesh.proto.handshake_driver import HandshakeDriver
from erlmesh.terms import Atom, Pid, Ref

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads /proc")

MIB = 1 << 20
LIMIT = 8 * MIB
"""``send_queue_limit`` and ``unfinished_receive_limit`` of the node."""
MARGIN = 48 * MIB
"""What the node may use beside its limits: one read and its answers, and what the allocator keeps."""
PROGRAM = """
import asyncio, logging, sys
from erlmesh import Atom, Node, NoEpmd, Pid, StaticResolver

async def flood(me):
    _, to = await me.receive()
    for number in range(100_000):
        me.send(to, bytes(4096))
    await me.receive()

async def deaf(me):
    me.mailbox_limit = 20_000
    await asyncio.Event().wait()

async def idle(me):
    await asyncio.Event().wait()

async def main():
    node = Node(
        "node@127.0.0.1", cookie="monster", epmd=NoEpmd(), resolver=StaticResolver({}), reconnect=False,
        send_queue_limit=LIMIT, unfinished_receive_limit=LIMIT,
    )
    async with node:
        node.expose(lambda: bytes(1 << 20), as_="erlmesh", name="big")
        node.spawn(flood, name="flood")
        node.spawn(deaf, name="deaf")
        pid = node.spawn(idle)
        for number in range(3000):
            node.pg.join(number, pid)
        print(node.internals.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)

logging.basicConfig(level=logging.INFO)
asyncio.run(main())
"""


class Target:
    """The node, and the members that are connected with it."""

    def __init__(self, folder, stack):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ERL")}
        environment |= {"ERLMESH_PURE": os.environ.get("ERLMESH_PURE", ""), "HOME": str(folder)}
        environment["PYTHONPATH"] = str(Path(erlmesh.__file__).parent.parent)
        self.log = (folder / "log").open("w+b")
        stack.callback(self.log.close)
        program = PROGRAM.replace("LIMIT", str(LIMIT))
        self.process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                env=environment,
            )
        )
        stack.callback(self.process.kill)
        self.port = int(self.process.stdout.readline())
        self.before = self.peak()
        self._stack = stack

    def peak(self):
        """The most memory that the process has used so far, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def growth(self):
        return self.peak() - self.before

    def logged(self, text):
        return text in Path(self.log.name).read_text()

    def wait_logged(self, text):
        end = time.monotonic() + 60
        while not self.logged(text):
            assert time.monotonic() < end, Path(self.log.name).read_text()
            time.sleep(0.02)  # between two looks at the file

    def member(self, name):
        member = Member(name, self.port)
        self._stack.callback(member.socket.close)
        return member


class Member:
    def __init__(self, name, port):
        self.atom = Atom(f"{name}@127.0.0.1")
        local = LocalNode(self.atom.name, 1, lambda _: "monster", lambda: 7, set(), OFFERED)
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        driver = HandshakeDriver(initiate(local, "node@127.0.0.1", lambda: True), now=0.0)
        events = []
        while not events:
            self.socket.sendall(driver.data_to_send())
            events = driver.receive_data(self.socket.recv(4096), 0.0)
        self.socket.sendall(driver.data_to_send())
        self.channel = Channel("node@127.0.0.1", self.atom.name, events[0].flags, now=0.0)

    def pid(self, number):
        return Pid(self.atom, 100 + number, 0, 1)

    def data(self, *signals):
        for signal in signals:
            self.channel.send(signal)
        return self.channel.data_to_send(0.0)

    def send(self, name, *messages):
        """Send all, unless the node ends the connection."""
        self.write(self.data(*(SendName(self.pid(0), Atom(name), message) for message in messages)), 100)

    def wait_handled(self):
        """Wait until the node has handled all that was sent."""
        tag = Ref(self.atom, 1, (9, 9, 9))
        self.send("net_kernel", (GEN_CALL, (self.pid(0), tag), (Atom("is_auth"), self.atom)))
        self.socket.settimeout(60)
        while not any(
            type(signal) is Send and signal.message[0] == tag
            for signal in self.channel.receive_data(self.socket.recv(MIB), 0.0)
        ):
            pass

    def write(self, data, patience=3):
        self.socket.settimeout(patience)
        with contextlib.suppress(TimeoutError, ConnectionError):
            self.socket.sendall(data)


@pytest.fixture
def target(tmp_path):
    with contextlib.ExitStack() as stack:
        yield Target(tmp_path, stack)


def test_answers_of_exposed_functions_that_nobody_reads_are_bounded(target):
    member = target.member("asks")
    calls = [
        SpawnRequest(
            Ref(member.atom, 1, (number, 0, 0)),
            member.pid(number),
            member.pid(0),
            Atom("erpc"),
            Atom("execute_call"),
            4,
            [Atom("monitor")],
            [Ref(member.atom, 1, (number, 1, 0)), Atom("erlmesh"), Atom("big"), []],
        )
        for number in range(600)
    ]
    member.write(member.data(*calls))
    target.wait_logged("lost asks@127.0.0.1: 8 MiB waited for it")

    assert target.growth() < LIMIT + MARGIN


def test_long_answers_to_short_greetings_are_bounded(target):
    member = target.member("greets")
    member.send("pg", *[(Atom("discover"), member.pid(0))] * 10_000)
    target.wait_logged("lost greets@127.0.0.1: 8 MiB waited for it")

    assert target.growth() < LIMIT + MARGIN


def test_a_body_that_sends_without_end_is_bounded(target):
    member = target.member("deaf")
    member.send("flood", (Atom("to"), member.pid(0)))
    target.wait_logged("lost deaf@127.0.0.1: 8 MiB waited for it")

    assert target.growth() < LIMIT + MARGIN


def test_unfinished_messages_of_several_members_are_bounded(target):
    members = [target.member(f"unfinished{number}") for number in range(6)]
    for member in members:
        whole = member.data(Send(member.pid(0), Pid(Atom("node@127.0.0.1"), 64, 0, 1), bytes(80 * MIB)))
        member.write(whole[: -2 * MIB])
    target.wait_logged("those of all nodes more than 8 MiB")

    assert target.growth() < LIMIT + MARGIN


def test_what_a_member_says_of_other_nodes_is_bounded(target):
    member = target.member("tells")
    creation = 1 << 40
    for first in range(0, 30_000, 5000):
        names = [Atom(f"{number}@nowhere") for number in range(first, first + 5000)]
        member.send("global_name_server", *((GEN_CAST, (Atom("in_sync"), name, True)) for name in names))
        member.send(
            "global_name_server",
            *((Atom("lost_connection"), member.atom, creation, first + at, name) for at, name in enumerate(names)),
        )
    member.wait_handled()

    assert target.growth() < MARGIN


def test_a_mailbox_with_a_limit_is_bounded(target):
    member = target.member("floods")
    for _ in range(60):
        member.send("deaf", *[bytes(2000)] * 1000)
    target.wait_logged("and its limit is 20000")

    assert target.growth() < 20_000 * 2200 + MARGIN
    assert target.logged("10000 messages wait for process")
