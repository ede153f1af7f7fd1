"""Findings about the way from a name to a port: the name's form, the host's addresses, EPMD, the port. No I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from erlmesh.doctor.findings import Finding, ProbeFailure, failed, note, ok, skipped
from erlmesh.proto.epmd import PortInfo
from erlmesh.proto.handshake import is_long_name, is_node_name

__all__ = [
    "check_addresses",
    "check_epmd",
    "check_name",
    "check_port",
    "check_registration",
    "epmd_skipped",
]


def check_name(target: str, local_name: str | None) -> Finding:
    """Check that ``target`` is a node name, long or short like ``local_name`` (None: any form is fine)."""
    if not is_node_name(target):
        return failed(
            "name",
            f"{target!r} is not a node name",
            "A node name is NAME@HOST: one @, ASCII, at most 255 characters, both parts not empty.",
            "On that node, erlang:node() or Node.self() shows its name. Use exactly that name.",
        )
    form = "long" if is_long_name(target) else "short"
    if local_name is not None and is_long_name(local_name) != is_long_name(target):
        return failed(
            "name",
            f"{target} is a {form} name, but our name, {local_name}, is not",
            "The host of a long name has a dot or a colon (it may be an address). The host of a short name has none. "
            "Erlang does not connect a node with a long name to a node with a short name.",
            "Give both nodes long names (erl -name, NAME@10.0.0.7) or both short names (erl -sname, NAME@host).",
            form=form,
        )
    return ok(
        "name",
        f"{target} is a {form} node name" + ("" if local_name is None else f", like our name {local_name}"),
        form=form,
    )


def check_addresses(host: str, addresses: Sequence[str], reason: str = "") -> Finding:
    """Check that the host of the name has addresses. ``reason`` says why there are none."""
    if not addresses:
        return failed(
            "dns",
            f"this machine cannot resolve the host {host!r}: {reason}",
            "To connect, this machine must resolve the host part of the node name to an address.",
            "Check the spelling of the host.",
            f"Or add a line 'ADDRESS {host}' to /etc/hosts, or start that node with its address: NAME@10.0.0.7.",
        )
    facts = {"addresses": list(addresses)}
    if list(addresses) == [host]:
        return ok("dns", f"{host} is an address, no lookup needed", **facts)
    shown = ", ".join(addresses)
    if host != "localhost" and all(ipaddress.ip_address(a.partition("%")[0]).is_loopback for a in addresses):
        return note(
            "dns",
            f"{host} resolves to {shown}: this machine itself",
            "If that node runs on another machine, this is why it is not found. (Debian maps the host name of the "
            "machine to 127.0.1.1 in /etc/hosts.)",
            "In that case put the real address into /etc/hosts or DNS.",
            **facts,
        )
    return ok("dns", f"{host} resolves to {shown}", **facts)


def epmd_skipped(reason: str) -> list[Finding]:
    """Return the finding for a target whose port is known without EPMD."""
    return [skipped("epmd", f"not needed: {reason}")]


def check_epmd(
    host: str, port: int, names: Mapping[str, int] | None, failure: ProbeFailure | None, observed: str
) -> Finding:
    """Check that an EPMD answered on ``port``. ``names`` is its answer.

    ``observed`` describes the service that answered instead, or an error.
    """
    if names is not None:
        known = ", ".join(names) or "none"
        return ok(
            "epmd", f"the EPMD of {host} answers on port {port}; its nodes: {known}", port=port, names=dict(names)
        )
    facts = {"port": port, "fault": failure.value if failure else None}
    match failure:
        case ProbeFailure.REFUSED:
            return failed(
                "epmd",
                f"nothing listens on EPMD's port {port} of {host}",
                "Every Erlang node registers its name and port with the EPMD of its host. So no node runs there, or "
                "its EPMD uses another port, or it runs without EPMD.",
                "Is the node started? On its host,  epmd -names  lists the running nodes.",
                "If its EPMD uses another port, set the same ERL_EPMD_PORT here.",
                "If it runs without EPMD (-erl_epmd_port N), give  --erl-epmd-port N  here.",
                f"If it runs in a container, port {port} must be reachable too, not only the port of the node.",
                **facts,
            )
        case ProbeFailure.OTHER_PROTOCOL:
            return failed(
                "epmd",
                f"the service on port {port} of {host} is not an EPMD: {observed}",
                "Another service uses the port of EPMD, so no node can be found there.",
                "Stop that service, or run the nodes and this command with another ERL_EPMD_PORT.",
                **facts,
            )
        case ProbeFailure.UNREACHABLE:
            return failed(
                "epmd",
                f"there is no route to {host}: {observed}",
                "The address is on a network that this machine has no route to.",
                "Check the address, the network or VPN, and the routes.",
                **facts,
            )
        case ProbeFailure.CLOSED:
            return failed(
                "epmd",
                f"port {port} of {host} accepts the connection and closes it without an answer",
                "An EPMD answers at once. This is another service, or a proxy or port mapping without a service "
                "behind it.",
                "On that host,  ss -ltnp  shows which program listens.",
                **facts,
            )
    return failed(
        "epmd",
        f"port {port} of {host} does not answer" + (f" ({observed})" if observed else ""),
        "A firewall drops our packets, the host is down, or the listening process is stopped (SIGSTOP, docker pause).",
        f"Open TCP port {port} in the firewalls between here and {host}, and the port of the node.",
        "Is the host up? If an erlmesh node is the EPMD of that host, is that node paused?",
        **facts,
    )


def check_registration(target: str, entry: PortInfo | None, names: Mapping[str, int]) -> Finding:
    """Check that EPMD knows the node, and that the node's protocol version is 6 or later."""
    alive_name, _, host = target.partition("@")
    if entry is None:
        near = get_close_matches(alive_name, list(names), n=1)
        return failed(
            "registered",
            f"the EPMD of {host} does not know the node {alive_name!r}; "
            + (f"it knows {', '.join(names)}" if names else "it knows no nodes"),
            "The node is not running, or it has another name. A node is registered with EPMD exactly while it runs.",
            f"Did you mean {near[0]}@{host}?" if near else "Start the node, or use one of the registered names.",
            names=list(names),
        )
    facts = {"port": entry.port, "hidden": entry.hidden, "versions": [entry.lowest_version, entry.highest_version]}
    if entry.highest_version < 6:
        return failed(
            "registered",
            f"{alive_name} supports the distribution protocol only up to version {entry.highest_version}",
            "The node is OTP 22 or older. erlmesh needs version 6, which came with OTP 23.",
            "Run that node with OTP 23 or later.",
            **facts,
        )
    hidden = " (hidden)" if entry.hidden else ""
    return ok("registered", f"{alive_name} listens on port {entry.port}{hidden}", **facts)


def check_port(host: str, port: int, attempts: Mapping[str, ProbeFailure | None], *, from_epmd: bool) -> Finding:
    """Check that the node's port accepted a connection on one address.

    ``attempts`` maps each address to its failure, or to None for success. ``from_epmd`` is true if EPMD gave the port.
    """
    facts = {
        "port": port,
        "addresses": {address: fault.value if fault else "ok" for address, fault in attempts.items()},
    }
    reached = [address for address, fault in attempts.items() if fault is None]
    if reached:
        return ok("port", f"port {port} of {reached[0]} accepts connections", **facts)
    summary = "EPMD answers, but" if from_epmd else "the node cannot be reached:"
    if ProbeFailure.REFUSED in attempts.values():
        return failed(
            "port",
            f"{summary} nothing listens on port {port} of {host}",
            "The node listens on another interface, or it has exited and EPMD has not noticed. A firewall that rejects "
            "connections looks the same, and so does a container whose port is not mapped."
            if from_epmd
            else "No node runs there, or it listens on another port or interface.",
            f"On its host,  ss -ltn  shows the address on which port {port} listens. 127.0.0.1 accepts connections "
            "only from the same machine (erl: -kernel inet_dist_use_interface; erlmesh: --listen).",
            "Behind a NAT or in a container, fix the port and map it: -kernel inet_dist_listen_min N "
            "inet_dist_listen_max N  (erlmesh: --port N, --advertise-port).",
            **facts,
        )
    return failed(
        "port",
        f"{summary} port {port} of {host} does not answer",
        "A firewall drops our packets: the port of EPMD is open, the port of the node is not."
        if from_epmd
        else "A firewall drops our packets, or the host is down.",
        f"Open TCP port {port}. A node uses any free port by default. Limit it with  -kernel inet_dist_listen_min N "
        "inet_dist_listen_max M  (erlmesh: --port N-M), and open these ports.",
        **facts,
    )
