"""Python as a full member of an Erlang cluster. This module exports the public names and defines nothing else.

The first use of a name imports its module. So a program that needs few names does not load the rest. A health check,
for example, runs every ten seconds in every container.
"""

from __future__ import annotations

import gc
import importlib

from erlmesh.version import __version__ as __version__

TYPE_CHECKING = False  # type checkers take it as true; `typing` is not imported for `erlmesh --version`

if TYPE_CHECKING:
    from typing import Final

    from erlmesh.behaviours.child_spec import ChildSpec
    from erlmesh.behaviours.gen_server import NO_REPLY, Caller, GenServer, blocking
    from erlmesh.behaviours.supervisor import DynamicSupervisor, Supervisor
    from erlmesh.errors import (
        CalleeExited,
        CallError,
        CallTimeout,
        CodecError,
        ConnectError,
        DecodeError,
        EmptyGroup,
        EncodeError,
        ErlangError,
        ErlmeshError,
        Exit,
        GroupError,
        HandshakeRefused,
        NoConnection,
        NodeNotAlive,
        NodeStartError,
        NoProcess,
        NoSuchGroup,
        ProcessStartError,
        RemoteError,
        RemoteExit,
        RemoteThrow,
        ServingError,
        Throw,
        Undef,
    )
    from erlmesh.net.epmd import Epmd
    from erlmesh.net.resolvers import FixedPort, NoEpmd, StaticResolver
    from erlmesh.net.tls_config import TlsConfig
    from erlmesh.node import Node, Process
    from erlmesh.runtime.config import NodeConfig
    from erlmesh.services.pg.protocol import Joined, Left
    from erlmesh.services.rpc.function_table import expose
    from erlmesh.servings.client import ServingClient
    from erlmesh.servings.serving import Serving, serving
    from erlmesh.sync.node import SyncNode, connect
    from erlmesh.sync.process import SyncProcess
    from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref, SendableTerm, Term
    from erlmesh.terms.atom_names import a
    from erlmesh.typed import ConvertError, ElixirException, elixir_struct, from_term, to_term

_EXPORTS: Final = {
    "erlmesh.behaviours.child_spec": "ChildSpec",
    "erlmesh.behaviours.supervisor": "DynamicSupervisor Supervisor",
    "erlmesh.behaviours.gen_server": "NO_REPLY Caller GenServer blocking",
    "erlmesh.errors": (
        "CalleeExited CallError CallTimeout CodecError ConnectError DecodeError EmptyGroup EncodeError "
        "ErlangError ErlmeshError Exit GroupError HandshakeRefused NoConnection NodeNotAlive NodeStartError "
        "NoProcess NoSuchGroup ProcessStartError RemoteError RemoteExit RemoteThrow ServingError Throw Undef"
    ),
    "erlmesh.net.epmd": "Epmd",
    "erlmesh.net.resolvers": "FixedPort NoEpmd StaticResolver",
    "erlmesh.net.tls_config": "TlsConfig",
    "erlmesh.node": "Node Process",
    "erlmesh.runtime.config": "NodeConfig",
    "erlmesh.services.rpc.function_table": "expose",
    "erlmesh.services.pg.protocol": "Joined Left",
    "erlmesh.servings.client": "ServingClient",
    "erlmesh.servings.serving": "Serving serving",
    "erlmesh.sync.node": "SyncNode connect",
    "erlmesh.sync.process": "SyncProcess",
    "erlmesh.terms": "Atom BitString Export Fun ImproperList Map Pid Port Ref SendableTerm Term",
    "erlmesh.terms.atom_names": "a",
    "erlmesh.typed": "ConvertError ElixirException elixir_struct from_term to_term",
}

__all__ = [
    "NO_REPLY",
    "Atom",
    "BitString",
    "CallError",
    "CallTimeout",
    "CalleeExited",
    "Caller",
    "ChildSpec",
    "CodecError",
    "ConnectError",
    "ConvertError",
    "DecodeError",
    "DynamicSupervisor",
    "ElixirException",
    "EmptyGroup",
    "EncodeError",
    "Epmd",
    "ErlangError",
    "ErlmeshError",
    "Exit",
    "Export",
    "FixedPort",
    "Fun",
    "GenServer",
    "GroupError",
    "HandshakeRefused",
    "ImproperList",
    "Joined",
    "Left",
    "Map",
    "NoConnection",
    "NoEpmd",
    "NoProcess",
    "NoSuchGroup",
    "Node",
    "NodeConfig",
    "NodeNotAlive",
    "NodeStartError",
    "Pid",
    "Port",
    "Process",
    "ProcessStartError",
    "Ref",
    "RemoteError",
    "RemoteExit",
    "RemoteThrow",
    "SendableTerm",
    "Serving",
    "ServingClient",
    "ServingError",
    "StaticResolver",
    "Supervisor",
    "SyncNode",
    "SyncProcess",
    "Term",
    "Throw",
    "TlsConfig",
    "Undef",
    "a",
    "blocking",
    "connect",
    "elixir_struct",
    "expose",
    "from_term",
    "serving",
    "to_term",
]


def __getattr__(name: str) -> object:
    for home, names in _EXPORTS.items():
        if name in names.split():
            found = globals()[name] = getattr(_import_module(home), name)
            return found
    raise AttributeError(f"module 'erlmesh' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _import_module(name: str) -> object:
    """Import a module without the garbage collector: what an import makes stays alive, so it would find nothing."""
    if not gc.isenabled():
        return importlib.import_module(name)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.enable()
