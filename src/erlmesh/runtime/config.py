"""The configuration of a node: one field for each option.

The keywords of :class:`erlmesh.Node`, the options of the command line, the ``ERLMESH_*`` variables and the table in
docs/reference/configuration.md come from the fields of :class:`NodeConfig`. To add an option, add a field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from erlmesh.core.allow_list import AllowList
from erlmesh.core.cookies import Cookies
from erlmesh.core.fair_share import DIAL_LIMIT, HANDSHAKE_LIMIT, HANDSHAKES_PER_ADDRESS
from erlmesh.core.guess_limiter import GUESS_DELAY
from erlmesh.net.dist_protocol import HIGH_WATER, SEND_QUEUE_LIMIT
from erlmesh.net.epmd import CLIENT_LIMIT, CLIENTS_PER_ADDRESS
from erlmesh.net.network import Network, TcpNetwork
from erlmesh.net.resolvers import PortMapper, Resolver, listen_ports, validate_port
from erlmesh.proto.channel import FRAME_LIMIT
from erlmesh.proto.handshake import is_node_name
from erlmesh.proto.receive_buffer import RECEIVE_LIMIT, RECEIVE_TOTAL_LIMIT
from erlmesh.proto.unfinished import UNFINISHED_LIMIT
from erlmesh.records import field, fields, record
from erlmesh.runtime.option_parsers import (
    parse_byte_count,
    parse_bytes,
    parse_count,
    parse_list,
    parse_pause,
    parse_port,
    parse_seconds,
    parse_switch,
)
from erlmesh.terms import Atom

if TYPE_CHECKING:
    from erlmesh.net.tls_config import TlsConfig  # loaded by nodes that use it

__all__ = ["CommandOption", "NodeConfig", "accept_fields_of", "options", "options_of", "parser_of"]

P = ParamSpec("P")
S = TypeVar("S")
Parser = Callable[[Any, str], Any]

_METADATA: Final = "erlmesh.options"


@record(frozen=True)
class CommandOption:
    """How a field is written on the command line and in the environment."""

    flag: str
    """The option: ``--net-ticktime``."""
    help: str
    """What ``--help`` prints. It starts in lower case and has no full stop."""
    metavar: str | None = None
    """The name of the value in ``--help``. None makes a switch: ``--hidden`` and ``--no-hidden``."""
    repeated: bool = False
    """The option may be repeated. In the variable, commas or spaces separate the values."""
    for_clients: bool = False
    """Commands that only ask another node (``ping``, ``members``, ``doctor``) have the option, too."""
    other_variables: tuple[str, ...] = ()
    """The variables, if there is not exactly one that is named after the flag."""

    @property
    def name(self) -> str:
        """The attribute that argparse sets."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that are used if the option is not given."""
        return self.other_variables or ("ERLMESH_" + self.name.upper(),)


def options(*command_options: CommandOption, parse: Parser | None = None) -> dict[str, Any]:
    """The metadata of a field with options. ``parse(value, source)`` makes its value, and raises NodeStartError.

    A field with several options, or one that needs I/O, has no parser: erlmesh.cli.node_options reads it by name.
    """
    return {_METADATA: (command_options, parse)}


def options_of(config: type) -> dict[str, tuple[CommandOption, ...]]:
    """The options of each field of a record, in the order of the fields; empty for a field without any."""
    return {each.name: each.metadata.get(_METADATA, ((), None))[0] for each in fields(config)}


def parser_of(config: type, name: str) -> Parser | None:
    """The parser of a field; None if it has none."""
    (found,) = (each for each in fields(config) if each.name == name)
    parse: Parser | None = found.metadata.get(_METADATA, ((), None))[1]
    return parse


@record(frozen=True, kw_only=True)
class NodeConfig:
    """What a node is given before it starts. :class:`erlmesh.Node` takes each field as a keyword.

    Raises ``ValueError`` if a value is not valid; its text says what is expected. Nothing here does I/O: that the port
    is free and that the host exists is checked when the node starts.
    """

    name: str = field(
        kw_only=False,
        metadata=options(
            CommandOption("--name", "this node's name", "NAME[@HOST]", for_clients=True),
            CommandOption(
                "--host",
                "the host for names without one, else 127.0.0.1; auto finds this machine's address",
                "HOST",
                for_clients=True,
            ),
        ),
    )
    """``alive@host``. Other nodes reach it at that host and by exactly that name. On the command line a name without a
    host gets 127.0.0.1 or ``--host``; ``auto`` finds this machine's address."""
    cookie: str | None = field(
        default=None,
        repr=False,
        metadata=options(
            CommandOption(
                "--cookie",
                "the cluster's secret; other users of this machine see it in `ps`, so a file is better",
                "TEXT",
                for_clients=True,
            ),
            CommandOption("--cookie-file", "file with the cookie, else ~/.erlang.cookie", "FILE", for_clients=True),
        ),
    )
    """The secret that all nodes of the cluster share. The command line also finds it in ``~/.erlang.cookie`` and
    ``/run/secrets/cookie``. There is no default."""
    cookies: Mapping[Atom, str] | Mapping[str, str] | None = field(
        default=None,
        repr=False,
        metadata=options(
            CommandOption(
                "--cookies-file", "file with lines NODE COOKIE, for nodes with another cookie", "FILE", for_clients=True
            )
        ),
    )
    """Cookies of single peers, by node name. The file has lines ``NODE COOKIE``. See also ``node.set_cookie()``."""
    join: Iterable[Atom | str] = field(
        default=(),
        metadata=options(
            CommandOption("--join", "node to connect with at the start; may be repeated", "NODE", repeated=True),
            parse=parse_list,
        ),
    )
    """Nodes to connect with at the start. They report all others, and the node connects to those, too."""
    hidden: bool = field(
        default=False,
        metadata=options(
            CommandOption("--hidden", "be a hidden node: not in the mesh, not in nodes() of others"), parse=parse_switch
        ),
    )
    """Be a hidden node: out of the mesh, out of ``nodes()`` of other nodes, out of ``global``."""
    hidden_groups: bool = field(
        default=True,
        metadata=options(
            CommandOption("--hidden-groups", "a hidden node exchanges process groups with its nodes (the default)"),
            parse=parse_switch,
        ),
    )
    """A hidden node exchanges the members of its ``pg`` groups with each node that it is connected to. Without this
    it does so only with the nodes that ``node.pg.discover()`` names."""
    allow: Iterable[Atom | str] | None = field(
        default=None,
        metadata=options(
            CommandOption(
                "--allow",
                "connect with this node only: a node, a host, or NAME@, with * and ?; may be repeated",
                "NODE",
                repeated=True,
            ),
            parse=parse_list,
        ),
    )
    """The only nodes to connect with, in both directions: ``plato@10.0.0.7``, ``10.0.0.7`` (a host), ``plato@`` (a name
    on any host), with ``*`` and ``?``. None allows all. See also ``node.allow()``."""
    listen: str | Iterable[str] | None = field(
        default=None,
        metadata=options(
            CommandOption(
                "--listen",
                "address to accept connections on, * for all, else the host of the name; may be repeated",
                "ADDRESS",
                repeated=True,
            ),
            parse=parse_list,
        ),
    )
    """The host or address (or several; ``*`` is all) to accept connections on. None is the host of the name."""
    ports: Iterable[int] | None = field(
        default=None,
        metadata=options(
            CommandOption(
                "--port",
                "the port to listen on, or the range to take one from",
                "N[-M]",
                other_variables=("ERLMESH_PORT_MIN", "ERLMESH_PORT_MAX"),
            )
        ),
    )
    """The ports to try to listen on, in order. 0, or None, is any free port."""
    advertise_port: int | None = field(
        default=None,
        metadata=options(
            CommandOption(
                "--advertise-port", "the port to register with EPMD, if a NAT or a container maps ports", "N"
            ),
            parse=parse_port,
        ),
    )
    """The port to register with EPMD instead of the real one, where a NAT or a container engine maps ports."""
    epmd: PortMapper | None = field(
        default=None,
        metadata=options(
            CommandOption("--epmd", "register with EPMD, and ask it for other nodes (the default)"),
            CommandOption(
                "--erl-epmd-port",
                "no EPMD: every node listens on port N of its own address, as with OTP's option",
                "N",
                for_clients=True,
            ),
        ),
    )
    """What makes the node known. None is EPMD. ``NoEpmd()`` registers nowhere. ``FixedPort(N)`` needs no EPMD: all
    nodes listen on port N of their own address (``erl -erl_epmd_port N -start_epmd false``)."""
    resolver: Resolver | None = field(
        default=None,
        metadata=options(
            CommandOption(
                "--resolve",
                "where NODE listens, without asking EPMD; may be repeated",
                "NODE=HOST:PORT",
                repeated=True,
                for_clients=True,
            )
        ),
    )
    """What finds where other nodes listen. None asks ``epmd``. In Python it is any object with ``async def
    resolve(name)`` that returns host and port."""
    tls: TlsConfig | None = field(
        default=None,
        metadata=options(
            CommandOption(
                "--tls-cert", "this node's certificate, PEM: use TLS for all connections", "FILE", for_clients=True
            ),
            CommandOption("--tls-key", "the private key of the certificate, PEM", "FILE", for_clients=True),
            CommandOption(
                "--tls-ca", "the certificates of the CAs that sign those of nodes, PEM", "FILE", for_clients=True
            ),
            CommandOption(
                "--tls-minimum-version", "the oldest version of TLS, 1.2 or 1.3; 1.2", "VERSION", for_clients=True
            ),
            CommandOption(
                "--tls-verify-host",
                "a node that is connected to must have a certificate for the host of its name (the default)",
                for_clients=True,
            ),
            CommandOption("--tls-verify-caller-host", "a node that connects to this one must have one, too"),
        ),
    )
    """TLS for all connections, as with ``-proto_dist inet_tls`` of OTP: a ``TlsConfig``, with a field for each of these
    options. None is plain TCP. Nodes with TLS and nodes without it cannot connect."""
    net_ticktime: float = field(
        default=60.0,
        metadata=options(
            CommandOption(
                "--net-ticktime",
                "seconds of silence until a connection counts as lost, 60",
                "SECONDS",
                for_clients=True,
            ),
            parse=parse_seconds,
        ),
    )
    """Seconds without data from a peer until its connection counts as lost, give or take a quarter. All nodes of a
    cluster should have the same."""
    send_queue_limit: int = field(
        default=SEND_QUEUE_LIMIT,
        metadata=options(
            CommandOption(
                "--send-queue-limit", "bytes queued to a node at which its connection ends, 67108864", "BYTES"
            ),
            parse=parse_bytes,
        ),
    )
    """Bytes queued to one node at which its connection ends with a warning and the ``nodedown`` reason
    ``send_queue_full``. Processes that wait now and then (``receive``, ``call``, ``drain``) do not reach it. One
    message may be longer: what was queued before it counts."""
    frame_limit: int = field(
        default=FRAME_LIMIT,
        metadata=options(
            CommandOption("--frame-limit", "bytes of one frame of another node, 33554432", "BYTES"), parse=parse_bytes
        ),
    )
    """Bytes of one frame of another node. A longer one ends its connection. Erlang and erlmesh send a long message in
    frames of 64 KiB, so this does not limit it. Nodes in C and Java send each message in one frame."""
    element_limit: int | None = field(
        default=None,
        metadata=options(
            CommandOption(
                "--element-limit",
                "elements of one message of another node, else 4194304",
                "N",
            ),
            parse=parse_count,
        ),
    )
    """Elements of one message of another node: each atom, number, binary and identifier, and also each list, tuple and
    map. A map counts three times, and a key with its value six times. A tuple, list or map in a key counts for six
    more, and each of its elements from the 17th on for eight more. An atom that is spelt out, a port, a fun, a
    bitstring or a long integer counts eight times. A message with more ends its connection before it is decoded. An
    element takes up to about 128 bytes of memory. None is 4194304. So many are decoded in about a second with the
    native part, and in up to five without it, in slices. The bytes of binaries do not count."""
    blocked_receive_limit: int = field(
        default=RECEIVE_LIMIT,
        metadata=options(
            CommandOption(
                "--blocked-receive-limit",
                "bytes to receive from a node while the event loop is blocked, 67108864; 0 receives nothing",
                "BYTES",
            ),
            parse=parse_byte_count,
        ),
    )
    """Bytes that a thread receives from one node while the event loop is blocked. Until then no process there has to
    wait when it sends to this node. 0 receives nothing."""
    blocked_receive_total_limit: int = field(
        default=RECEIVE_TOTAL_LIMIT,
        metadata=options(
            CommandOption("--blocked-receive-total-limit", "the same for all nodes together, 268435456", "BYTES"),
            parse=parse_byte_count,
        ),
    )
    """The same for all nodes together."""
    unfinished_receive_limit: int = field(
        default=UNFINISHED_LIMIT,
        metadata=options(
            CommandOption(
                "--unfinished-receive-limit",
                "bytes of messages of all nodes that have arrived in part, 536870912",
                "BYTES",
            ),
            parse=parse_bytes,
        ),
    )
    """Bytes of long messages of all nodes that have arrived in part. Above it, the connection ends whose messages have
    made no progress for the longest time, with a warning and the ``nodedown`` reason ``unfinished_receive_full``."""
    reconnect: bool = field(
        default=True,
        metadata=options(
            CommandOption("--reconnect", "reconnect to nodes that were lost until they are back (the default)"),
            parse=parse_switch,
        ),
    )
    """Reconnect to a node that was lost, with growing pauses, until it is back or it is disconnected on purpose. False
    is what an Erlang node does."""
    prevent_overlapping_partitions: bool = field(
        default=True,
        metadata=options(
            CommandOption(
                "--prevent-overlapping-partitions", "as OTP 25 and later do (the default); the same on all nodes"
            ),
            parse=parse_switch,
        ),
    )
    """OTP's ``prevent_overlapping_partitions`` of ``global``. It must be the same on all nodes."""
    expose_threads: int | None = field(
        default=None,
        metadata=options(
            CommandOption(
                "--expose-threads",
                "threads for exposed functions that are not async, else cores + 4 and at most 32; 0 runs them in the "
                "event loop",
                "N",
            ),
            parse=parse_count,
        ),
    )
    """Threads for exposed functions that are not coroutine functions. They start when they are needed. None is cores +
    4, and at most 32. 0 runs these functions in the event loop, where they block everything else."""
    expose_queue_limit: int = field(
        default=10_000,
        metadata=options(
            CommandOption(
                "--expose-queue-limit", "calls that may wait for such a thread, 10000; further ones are refused", "N"
            ),
            parse=parse_count,
        ),
    )
    """Calls that may wait for a thread. A further one fails with ``{overloaded, Text}``."""
    grace: float = field(
        default=8.0,
        metadata=options(
            CommandOption(
                "--grace", "seconds that processes get to finish their work when the node stops, 8", "SECONDS"
            ),
            parse=parse_pause,
        ),
    )
    """Seconds that processes get to finish their work when the node stops. The default is below the 10 seconds of
    ``docker stop``. 0 ends all at once. See ``node.stop()``."""
    epmd_client_limit: int = field(
        default=CLIENT_LIMIT,
        metadata=options(
            CommandOption(
                "--epmd-client-limit", "clients of an embedded EPMD that have not said their request, 256", "N"
            ),
            parse=parse_count,
        ),
    )
    """Clients of this node's own EPMD whose request is not complete. Above it the oldest client of the address with the
    most is closed. Registered nodes do not count. It is never more than a quarter of the descriptors of the process."""
    epmd_clients_per_address: int = field(
        default=CLIENTS_PER_ADDRESS,
        metadata=options(
            CommandOption("--epmd-clients-per-address", "the same for the clients of one address, 64", "N"),
            parse=parse_count,
        ),
    )
    """The same for the clients of one address, or of one IPv6 network (/64)."""
    handshake_limit: int = field(
        default=HANDSHAKE_LIMIT,
        metadata=options(
            CommandOption("--handshake-limit", "connections that have not proved the cookie, 256", "N"),
            parse=parse_count,
        ),
    )
    """Incoming connections that have not proved the cookie. Above it the oldest connection of the address with the most
    is closed. It is never more than a quarter of the descriptors of the process."""
    handshakes_per_address: int = field(
        default=HANDSHAKES_PER_ADDRESS,
        metadata=options(
            CommandOption("--handshakes-per-address", "the same for the connections of one address, 128", "N"),
            parse=parse_count,
        ),
    )
    """The same for the connections of one address, or of one IPv6 network (/64)."""
    guess_delay: float = field(
        default=GUESS_DELAY,
        metadata=options(
            CommandOption(
                "--guess-delay",
                "the longest pause between two checks of a cookie from one address that sent wrong ones, 0.5",
                "SECONDS",
            ),
            parse=parse_pause,
        ),
    )
    """The longest pause in seconds between two checks of a cookie from one address. It starts after three wrong cookies
    and doubles from 0.1 s. 0 makes no pause."""
    dial_limit: int = field(
        default=DIAL_LIMIT,
        metadata=options(
            CommandOption("--dial-limit", "nodes to dial at a time, 64; 1024 more may wait", "N"), parse=parse_count
        ),
    )
    """Nodes that are dialled at a time. 1024 more may wait for their turn; further attempts fail."""
    output: Callable[[str], object] | None = None
    """Gets the text that processes print which this node started on other nodes. None is standard output."""
    network: Network | None = None
    """The network, for simulations (:mod:`erlmesh.testing`). None is TCP."""
    seed: int | None = None
    """For simulations: all random numbers repeat, also the challenges of the handshake. Those must be unpredictable in
    production, so leave it None there."""

    def __post_init__(self) -> None:
        if not is_node_name(self.name):
            raise ValueError(
                f"{self.name!r} is not a node name: it looks like socrates@127.0.0.1, one @, ASCII, "
                "at most 255 characters"
            )
        if not self.net_ticktime > 0:
            raise ValueError(f"net_ticktime is a positive number of seconds, not {self.net_ticktime!r}")
        if not self.send_queue_limit >= HIGH_WATER:
            raise ValueError(f"send_queue_limit is a number of bytes, at least 1 MiB, not {self.send_queue_limit!r}")
        if not self.frame_limit >= 1 << 20:
            raise ValueError(f"frame_limit is a number of bytes, at least 1 MiB, not {self.frame_limit!r}")
        if self.element_limit is not None:
            _validate_count(self.element_limit, "element_limit", least=1)
        _validate_count(self.blocked_receive_limit, "blocked_receive_limit")
        _validate_count(self.blocked_receive_total_limit, "blocked_receive_total_limit")
        _validate_count(self.unfinished_receive_limit, "unfinished_receive_limit", least=1 << 20)
        Cookies(self.cookie, self.cookies or {})
        if isinstance(self.join, str):
            raise ValueError(f"`join` is a list of node names, not one name: [{self.join!r}]")  # noqa: TRY004 - one kind of error for all
        if isinstance(self.listen, str):
            object.__setattr__(self, "listen", (self.listen,))
        self._read_once("listen", "ports", *(() if isinstance(self.allow, str | Atom) else ("allow",)))
        object.__setattr__(self, "join", tuple(Atom(peer).name for peer in self.join))
        AllowList(self.allow)
        listen_ports(self.ports, self.epmd)
        if self.tls is not None and not isinstance(self.network, TcpNetwork | None):
            raise ValueError("tls needs a real network: a simulated one has no sockets")
        if self.advertise_port is not None:
            validate_port(self.advertise_port, "advertise_port")
        if self.expose_threads is not None:
            _validate_count(self.expose_threads, "expose_threads")
        _validate_count(self.expose_queue_limit, "expose_queue_limit")
        if not self.guess_delay >= 0:
            raise ValueError(f"guess_delay is a number of seconds, 0 or more, not {self.guess_delay!r}")
        if not self.grace >= 0:
            raise ValueError(f"grace is a number of seconds, 0 or more, not {self.grace!r}")
        for name in (
            "epmd_client_limit",
            "epmd_clients_per_address",
            "handshake_limit",
            "handshakes_per_address",
            "dial_limit",
        ):
            _validate_count(getattr(self, name), name, least=1)

    def _read_once(self, *names: str) -> None:
        """An iterable may be an iterator: a second node with this configuration reads the same values."""
        for name in names:
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(value))


def _validate_count(count: int, name: str, *, least: int = 0) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < least:
        raise ValueError(f"{name} is a whole number, {least} or more, not {count!r}")


def accept_fields_of(
    config: Callable[P, NodeConfig],
) -> Callable[[Callable[[S, NodeConfig], None]], Callable[Concatenate[S, P], None]]:
    """Lets ``__init__(self, config)`` take the fields of ``config`` as explicit keywords.

    Type checkers, editors and ``help()`` see each field with its type and its default.
    """

    def decorate(init: Callable[[S, NodeConfig], None]) -> Callable[Concatenate[S, P], None]:
        def __init__(self: S, /, *arguments: P.args, **keywords: P.kwargs) -> None:  # noqa: N807
            init(self, config(*arguments, **keywords))

        # inspect.signature follows it when somebody asks. To make the signature here would delay every start.
        __init__.__wrapped__ = config.__init__  # type: ignore[attr-defined]
        return __init__

    return decorate
