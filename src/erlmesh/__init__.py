"""Python as a full member of an Erlang cluster. The public names; nothing is defined here."""

from erlmesh.errors import (
    CalleeExited,
    CallError,
    CallTimeout,
    CodecError,
    ConnectError,
    DecodeError,
    EncodeError,
    ErlangError,
    ErlmeshError,
    Exit,
    HandshakeRefused,
    NoConnection,
    NodeNotAlive,
    NodeStartError,
    NoProcess,
    RemoteError,
    RemoteExit,
    RemoteThrow,
    Throw,
)
from erlmesh.net.epmd import Epmd
from erlmesh.net.epmdless import Addresses, FixedPort, NoEpmd
from erlmesh.node import Node
from erlmesh.runtime.process import Process
from erlmesh.services.exposed import expose
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref, Term

__version__ = "0.1.0"

__all__ = [
    "Addresses",
    "Atom",
    "BitString",
    "CallError",
    "CallTimeout",
    "CalleeExited",
    "CodecError",
    "ConnectError",
    "DecodeError",
    "EncodeError",
    "Epmd",
    "ErlangError",
    "ErlmeshError",
    "Exit",
    "Export",
    "FixedPort",
    "Fun",
    "HandshakeRefused",
    "ImproperList",
    "Map",
    "NoConnection",
    "NoEpmd",
    "NoProcess",
    "Node",
    "NodeNotAlive",
    "NodeStartError",
    "Pid",
    "Port",
    "Process",
    "Ref",
    "RemoteError",
    "RemoteExit",
    "RemoteThrow",
    "Term",
    "Throw",
    "expose",
]
