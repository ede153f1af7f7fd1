"""The datagrams of libcluster's gossip (``Cluster.Strategy.Gossip``, gossip.ex)::

    heartbeat::<<131, …>>    the text heartbeat:: and the external term of the map #{node => Name}
    Iv, Ciphertext           with a secret: AES-256-CBC of the same, with the key SHA-256(secret) and PKCS#7 padding

The map is read here and not by the decoder of terms. So what anybody sends to the port makes no atom.

The encryption has no checksum: it hides the names, and keeps clusters with different secrets apart. It does not prove
which node has sent a datagram. Only the cookie proves that, when the nodes connect.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from collections.abc import Callable
from typing import Any, Final

from erlmesh.etf import encode
from erlmesh.terms import Atom

__all__ = ["GossipCipher", "Malformed", "encode_heartbeat", "parse_heartbeat"]

PRELUDE: Final = b"heartbeat::"
MAX_DATAGRAM: Final = 1024
"""A heartbeat has at most about 560 bytes: the name of a node has 255 characters."""
BLOCK: Final = 16
# The version of the format, a map with one pair, and the key `node` in each of the encodings of an atom.
_HEADER: Final = b"\x83\x74\x00\x00\x00\x01"
_KEYS: Final = (b"\x77\x04node", b"\x76\x00\x04node", b"\x64\x00\x04node", b"\x73\x04node")
_LENGTH_BYTES: Final = {0x77: 1, 0x73: 1, 0x76: 2, 0x64: 2}
"""The tags of atoms, and how many bytes their length has."""
_NODE_NAME: Final = re.compile(r"[A-Za-z0-9_-]+@[A-Za-z0-9_.:%-]+")


class Malformed(Exception):
    """A datagram is not a heartbeat, or has another secret. The message says what it is."""


def encode_heartbeat(name: str) -> bytes:
    """The heartbeat of the node ``name``, not encrypted."""
    return PRELUDE + encode({Atom("node"): Atom(name)})


def parse_heartbeat(data: bytes) -> str:
    """The name in a heartbeat that is not encrypted. Raises Malformed."""
    if not data.startswith(PRELUDE) or len(data) > MAX_DATAGRAM:
        raise Malformed("it is not a heartbeat: the other nodes may have a secret")
    term = data[len(PRELUDE) :]
    key = next((each for each in _KEYS if term.startswith(_HEADER + each)), None)
    if key is None:
        raise Malformed("its term is not the map of a heartbeat")
    name = _atom_text(term[len(_HEADER) + len(key) :])
    if len(name) > 255 or not _NODE_NAME.fullmatch(name):
        raise Malformed("it has no name of a node")
    return name


def _atom_text(data: bytes) -> str:
    """The text of the atom that is all of ``data``. A name of a node has ASCII characters only."""
    size = _LENGTH_BYTES.get(data[0], 0) if data else 0
    text = data[1 + size :]
    if not size or len(text) != int.from_bytes(data[1 : 1 + size]) or not text.isascii():
        raise Malformed("it has no name of a node")
    return text.decode("ascii")


class GossipCipher:
    """Encrypts and decrypts heartbeats with a shared secret, as libcluster does.

    ``random_bytes(n)`` makes the initialization vectors. Raises ImportError without the package cryptography.
    """

    def __init__(self, secret: bytes, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        ciphers: Any = importlib.import_module("cryptography.hazmat.primitives.ciphers")
        self._ciphers = ciphers
        self._key = ciphers.algorithms.AES(hashlib.sha256(secret).digest())
        self._random_bytes = random_bytes

    def encrypt(self, heartbeat: bytes) -> bytes:
        """A datagram."""
        vector = self._random_bytes(BLOCK)
        missing = BLOCK - len(heartbeat) % BLOCK
        encryptor = self._ciphers.Cipher(self._key, self._ciphers.modes.CBC(vector)).encryptor()
        encrypted: bytes = encryptor.update(heartbeat + bytes([missing]) * missing) + encryptor.finalize()
        return vector + encrypted

    def decrypt(self, datagram: bytes) -> bytes:
        """The heartbeat in a datagram. Raises Malformed."""
        if datagram.startswith(PRELUDE):
            raise Malformed("it is not encrypted: the other nodes have no secret")
        if len(datagram) > MAX_DATAGRAM or len(datagram) < 2 * BLOCK or len(datagram) % BLOCK:
            raise Malformed("it is not a heartbeat")
        decryptor = self._ciphers.Cipher(self._key, self._ciphers.modes.CBC(datagram[:BLOCK])).decryptor()
        padded: bytes = decryptor.update(datagram[BLOCK:]) + decryptor.finalize()
        padding = padded[-1]
        if not 1 <= padding <= BLOCK or padded[-padding:] != bytes([padding]) * padding:
            raise Malformed("it has another secret")
        heartbeat = padded[:-padding]
        if not heartbeat.startswith(PRELUDE):
            raise Malformed("it has another secret")
        return heartbeat
