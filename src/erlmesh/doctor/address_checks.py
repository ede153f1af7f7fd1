"""From a name to a port: the name's form, its host's addresses, EPMD, the port. Each function judges what was seen."""

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
    """Whether ``target`` is a node name, of the same form as ``ours`` (None: we may take whichever it needs)."""
    if not is_node_name(target):
        return failed(
            "name",
            f"{target!r} is no node name",
            "A node name is NAME@HOST: one @, ASCII, at most 255 characters, nothing empty.",
            "On that node, erlang:node() or Node.self() shows its name; use exactly that.",
        )
    form = "long" if is_long_name(target) else "short"
    if local_name is not None and is_long_name(local_name) != is_long_name(target):
        return failed(
            "name",
            f"{target} is a {form} name, and ours, {local_name}, is not",
            "Long names have a dot or a colon in the host (or are addresses), short ones have none. Erlang nodes of "
            "the two forms never meet.",
            "Give both nodes long names (erl -name, NAME@10.0.0.7) or both short ones (erl -sname, NAME@host).",
            form=form,
        )
    return ok(
        "name",
        f"{target} is a {form} node name" + ("" if local_name is None else f", as ours is ({local_name})"),
        form=form,
    )


def check_addresses(host: str, addresses: Sequence[str], reason: str = "") -> Finding:
    """What the host of the name leads to."""
    if not addresses:
        return failed(
            "dns",
            f"the host {host!r} is unknown here: {reason}",
            "Before anything is sent, the host part of the node name must lead to an address on this machine.",
            "Look for a typing error in the host.",
            f"Otherwise add a line 'ADDRESS {host}' to /etc/hosts, or start that node under its address, as "
            "NAME@10.0.0.7.",
        )
    facts = {"addresses": list(addresses)}
    if list(addresses) == [host]:
        return ok("dns", f"{host} is an address, nothing is to be looked up", **facts)
    shown = ", ".join(addresses)
    if host != "localhost" and all(ipaddress.ip_address(a.partition("%")[0]).is_loopback for a in addresses):
        return note(
            "dns",
            f"{host} is {shown}: this machine itself",
            "If that node runs on another machine, this is why it is not found. (Debian maps the own host name to "
            "127.0.1.1 in /etc/hosts.)",
            "If so, let /etc/hosts or DNS give its real address.",
            **facts,
        )
    return ok("dns", f"{host} is {shown}", **facts)


def epmd_skipped(reason: str) -> list[Finding]:
    """EPMD has no part in it."""
    return [skipped("epmd", f"not asked: {reason}")]


def check_epmd(
    host: str, port: int, names: Mapping[str, int] | None, failure: ProbeFailure | None, observed: str
) -> Finding:
    """Whether an EPMD answered at ``port``; ``saw`` describes somebody else who did."""
    if names is not None:
        known = ", ".join(names) or "no node"
        return ok("epmd", f"the EPMD of {host} answers on port {port} and knows {known}", port=port, names=dict(names))
    facts = {"port": port, "fault": failure.value if failure else None}
    match failure:
        case ProbeFailure.REFUSED:
            return failed(
                "epmd",
                f"nothing listens on EPMD's port {port} of {host}",
                "Every Erlang node is entered in the EPMD of its host, the phone book; so no node runs there, or it "
                "keeps to another port or to none.",
                "Is the node started? On its host,  epmd -names  lists the nodes that run.",
                "If it uses another EPMD port, set the same ERL_EPMD_PORT here.",
                "If it does without EPMD (-erl_epmd_port N), say  --erl-epmd-port N.",
                "If it runs in a container, port 4369 must be reachable, not only the node's.",
                **facts,
            )
        case ProbeFailure.OTHER_PROTOCOL:
            return failed(
                "epmd",
                f"what answers on port {port} of {host} is no EPMD: {observed}",
                "Another service has taken the port of the phone book, so no node can be found there.",
                "End that service, or run nodes and this command with another ERL_EPMD_PORT.",
                **facts,
            )
        case ProbeFailure.UNREACHABLE:
            return failed(
                "epmd",
                f"there is no way to {host}: {observed}",
                "The address is on a network that this machine has no route to.",
                "Check the address, the network or VPN, and the routes.",
                **facts,
            )
        case ProbeFailure.CLOSED:
            return failed(
                "epmd",
                f"port {port} of {host} takes the connection and closes it without an answer",
                "An EPMD answers at once; this is something else, or something between (a proxy, a port mapping to "
                "nobody).",
                "Look at what listens there:  ss -ltnp  on that host.",
                **facts,
            )
    return failed(
        "epmd",
        f"port {port} of {host} gives no answer" + (f" ({observed})" if observed else ""),
        "A firewall drops what we send, the host is down, or whoever listens is stopped (SIGSTOP, docker pause).",
        f"Open TCP port {port} on the way to {host}, and that of the node.",
        "Is the host up? If an erlmesh node is the EPMD of that host, is it paused?",
        **facts,
    )


def check_registration(target: str, entry: PortInfo | None, names: Mapping[str, int]) -> Finding:
    """Whether EPMD knows the node, and what it says of it."""
    alive, _, host = target.partition("@")
    if entry is None:
        near = get_close_matches(alive, list(names), n=1)
        return failed(
            "registered",
            f"the EPMD of {host} knows no node {alive!r}; "
            + (f"it knows {', '.join(names)}" if names else "it knows none at all"),
            "The node is not running, or has another name: a name is entered when the node starts and leaves with it.",
            f"Is {near[0]}@{host} meant?" if near else "Start the node, or use one of the names that are there.",
            names=list(names),
        )
    facts = {"port": entry.port, "hidden": entry.hidden, "versions": [entry.lowest_version, entry.highest_version]}
    if entry.highest_version < 6:
        return failed(
            "registered",
            f"{alive} speaks the distribution protocol up to version {entry.highest_version} only",
            "That is OTP 22 or older. Version 6 came with OTP 23, and is needed.",
            "Run that node with OTP 23 or later.",
            **facts,
        )
    return ok("registered", f"{alive} listens on port {entry.port}" + (" (hidden)" if entry.hidden else ""), **facts)


def check_port(host: str, port: int, attempts: Mapping[str, ProbeFailure | None], *, from_epmd: bool) -> Finding:
    """Whether the node's port took a connection at one of the addresses ``tried``."""
    facts = {
        "port": port,
        "addresses": {address: fault.value if fault else "ok" for address, fault in attempts.items()},
    }
    reached = [address for address, fault in attempts.items() if fault is None]
    if reached:
        return ok("port", f"port {port} of {reached[0]} takes connections", **facts)
    says = "EPMD answers, but" if from_epmd else "the node is not reached:"
    if ProbeFailure.REFUSED in attempts.values():
        return failed(
            "port",
            f"{says} nobody listens on port {port} of {host}",
            "The node listens on another interface, or it has ended and EPMD has not noticed; a firewall that rejects "
            "looks the same, and so does a container whose port is not mapped."
            if from_epmd
            else "No node listens there, or on another port or interface.",
            f"On its host,  ss -ltn  shows where port {port} listens: 127.0.0.1 there means for that machine alone "
            "(erl: -kernel inet_dist_use_interface; erlmesh: --listen).",
            "Behind a NAT or in a container, fix the port and map it: -kernel inet_dist_listen_min N "
            "inet_dist_listen_max N  (erlmesh: --port N, --advertise-port).",
            **facts,
        )
    return failed(
        "port",
        f"{says} port {port} of {host} does not answer",
        "A firewall drops what we send there: the port of EPMD is open, that of the node is not."
        if from_epmd
        else "A firewall drops what we send there, or the host is down.",
        f"Open TCP port {port}. A node takes any port by default; fix it with  -kernel inet_dist_listen_min N "
        "inet_dist_listen_max M  (erlmesh: --port N-M) and open these.",
        **facts,
    )
