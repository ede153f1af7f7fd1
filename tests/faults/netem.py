"""Network emulation between hosts: forwards frames with delay, jitter, loss and reordering, from a seed.

``python netem.py SEED p0=02:..:01 p1=02:..:02`` in the switch's namespace forwards frames between these ports until it
is stopped. The ports must be on no bridge. ``python netem.py plain eth0`` in a host's namespace disables the offloads
of that interface, so that it sends frames as they are on a wire. A kernel may lack ``tc netem``; every kernel has
packet sockets.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import heapq
import itertools
import random
import selectors
import socket
import struct
import sys
import time

DELAY, JITTER, LOSS, REORDERED = 0.010, 0.003, 0.01, 0.02
ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
SIOCETHTOOL = 0x8946
OFFLOADS = (0x17, 0x1F, 0x24, 0x2C)
"""ETHTOOL_STXCSUM, _STSO, _SGSO, _SGRO: work that a driver leaves to the hardware."""
BROADCAST_MAC = b"\xff" * 6


def disable_offloads(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        for offload in OFFLOADS:
            value = array.array("I", [offload, 0])
            with contextlib.suppress(OSError):  # the driver has no such offload
                fcntl.ioctl(door, SIOCETHTOOL, struct.pack("16sP", interface.encode(), value.buffer_info()[0]))


class NetworkEmulator:
    def __init__(self, seed: int, ports: dict[str, bytes]) -> None:
        self._rng = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[bytes, socket.socket] = {}
        self._delayed: list[tuple[float, int, socket.socket, bytes]] = []
        self._numbers = itertools.count()
        self.forwarded = self.dropped = 0
        for port, mac in ports.items():
            door = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            door.bind((port, ETH_P_ALL))
            self._sockets[mac] = door
            self._selector.register(door, selectors.EVENT_READ)

    def run(self) -> None:
        while True:
            pause = max(0.0, self._delayed[0][0] - time.monotonic()) if self._delayed else None
            for key, _ in self._selector.select(pause):
                frame, address = key.fileobj.recvfrom(65535)
                if address[2] != PACKET_OUTGOING:
                    self._forward(frame, key.fileobj)
            while self._delayed and self._delayed[0][0] <= time.monotonic():
                *_, door, frame = heapq.heappop(self._delayed)
                with contextlib.suppress(OSError):
                    door.send(frame)

    def _forward(self, frame: bytes, ingress: socket.socket) -> None:
        there = self._sockets.get(frame[:6])
        doors = [there] if there else [door for door in self._sockets.values() if door is not ingress]
        for door in doors:
            if self._rng.random() < LOSS:
                self.dropped += 1
                continue
            self.forwarded += 1
            delay = 0.0 if self._rng.random() < REORDERED else DELAY + self._rng.uniform(-JITTER, JITTER)
            heapq.heappush(self._delayed, (time.monotonic() + delay, next(self._numbers), door, frame))


def main(arguments: list[str]) -> None:
    if arguments[0] == "plain":
        disable_offloads(arguments[1])
        return
    ports = dict(argument.split("=") for argument in arguments[1:])
    emulator = NetworkEmulator(
        int(arguments[0]), {port: bytes.fromhex(mac.replace(":", "")) for port, mac in ports.items()}
    )
    print("emulation runs", flush=True)
    emulator.run()


if __name__ == "__main__":
    main(sys.argv[1:])
