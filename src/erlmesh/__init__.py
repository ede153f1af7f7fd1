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
from erlmesh.node import Node
from erlmesh.runtime.process import Process
from erlmesh.services.exposed import expose
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref, Term

__version__ = "0.1.0"

__all__ = [
    "Atom",
    "BitString",
    "CallError",
    "CallTimeout",
    "CalleeExited",
    "CodecError",
    "ConnectError",
    "DecodeError",
    "EncodeError",
    "ErlangError",
    "ErlmeshError",
    "Exit",
    "Export",
    "Fun",
    "HandshakeRefused",
    "ImproperList",
    "Map",
    "NoConnection",
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
