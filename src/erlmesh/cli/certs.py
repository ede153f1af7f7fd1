"""Make a certificate authority (CA) and certificates of nodes, for TLS between the nodes of a cluster.

The folder --dir gets a CA, unless it has one, and a folder for each node with its certificate, its key, the CA's
certificate, and the options for Erlang's `-ssl_dist_optfile`. Copy the folder of a node to its machine. Keep ca.key
to yourself: who has it can make certificates. It needs the package cryptography: pip install 'erlmesh[certs]'.
"""

from __future__ import annotations

import argparse
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from erlmesh.cli.settings import complete_name
from erlmesh.errors import CertificateError
from erlmesh.proto.handshake import is_long_name
from erlmesh.runtime.option_parsers import parse_count

if TYPE_CHECKING:
    from erlmesh.certs.folder import CertificateFolder

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh certs socrates@127.0.0.1 plato@127.0.0.1
  made a CA in certs, valid until 2036-11-28
  made certs/socrates@127.0.0.1, valid until 2027-12-01
  made certs/plato@127.0.0.1, valid until 2027-12-01
                …

  erlmesh certs                                   the CA alone
  erlmesh certs --force plato@127.0.0.1           a new certificate and key, from the same CA
  erlmesh certs --shared pods a@10.0.0.7 b@10.0.0.8         one certificate for several nodes, in certs/pods"""

_MOST_DAYS: Final = 36500


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "nodes", metavar="NODE", nargs="*", help="a node to make a certificate for; without a host it gets 127.0.0.1"
    )
    parser.add_argument("--dir", metavar="DIR", default="certs", help="the folder of the CA and of the nodes, certs")
    parser.add_argument("--days", metavar="N", default="365", help="days until the certificates expire, 365")
    parser.add_argument("--ca-days", metavar="N", default="3650", help="days until a new CA expires, 3650")
    parser.add_argument("--ca-name", metavar="TEXT", help="the name of a new CA, else erlmesh CA and a number")
    parser.add_argument("--shared", metavar="NAME", help="make one certificate for all the nodes, in the folder NAME")
    parser.add_argument(
        "--mounted-at",
        metavar="PATH",
        help="where the node finds its folder, for ssl_dist.conf, if you copy or mount it",
    )
    parser.add_argument("--force", action="store_true", help="replace certificates and keys of nodes; never the CA")


def run(options: argparse.Namespace) -> int:
    days, authority_days = _lifetime(options.days, "--days"), _lifetime(options.ca_days, "--ca-days")
    wanted = _wanted(options)
    folder = _open_folder(Path(options.dir))
    if not options.force and (existing := folder.existing(list(wanted))):
        raise CertificateError(
            f"there are already certificates in {', '.join(str(folder.path / name) for name in existing)}: "
            "--force replaces them. Nothing was made"
        )
    now = datetime.now(UTC).replace(microsecond=0)
    if folder.has_authority():
        print(f"the CA in {folder.path} is used")
    else:
        authority = folder.make_authority(options.ca_name, now, authority_days)
        print(f"made a CA in {folder.path}, valid until {authority.expires:%Y-%m-%d}")
    for name, nodes in wanted.items():
        issued = folder.issue(name, nodes, now, days, options.mounted_at)
        limit = ", when the CA expires" if issued.expires < now + days else ""
        print(f"made {folder.path / name}, valid until {issued.expires:%Y-%m-%d}{limit}")
    if wanted:
        print(_advice(folder.path, *next(iter(wanted.items())), options.mounted_at))
    return 0


def _wanted(options: argparse.Namespace) -> dict[str, list[str]]:
    """The folders to write, each with the nodes whose hosts its certificate has. Raises NodeStartError, ValueError."""
    nodes = [complete_name(node) for node in options.nodes]
    if options.shared is None:
        return {node: [node] for node in nodes}
    if not nodes:
        raise ValueError("--shared needs the nodes that share the certificate")
    if Path(options.shared).name != options.shared:
        raise ValueError(f"--shared is the name of a folder in --dir, not {options.shared!r}")
    return {options.shared: nodes}


def _lifetime(text: str, source: str) -> timedelta:
    days = parse_count(text, source)
    if not 0 < days <= _MOST_DAYS:
        raise ValueError(f"{source} is a number of days from 1 to {_MOST_DAYS}, not {days}")
    return timedelta(days=days)


def _open_folder(path: Path) -> CertificateFolder:
    try:
        from erlmesh.certs.folder import CertificateFolder  # noqa: PLC0415 - only this command needs cryptography
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cryptography":
            raise
        raise CertificateError(
            "certificates are made by the package cryptography, which is not installed: pip install 'erlmesh[certs]'"
        ) from None
    return CertificateFolder(path)


def _advice(path: Path, name: str, nodes: list[str], mounted_at: str | None) -> str:
    folder = Path(mounted_at) if mounted_at else path / name
    files = " ".join(
        f"--tls-{option} {shlex.quote(str(folder / file))}"
        for option, file in (("cert", "tls.crt"), ("key", "tls.key"), ("ca", "ca.crt"))
    )
    form = "-name" if is_long_name(nodes[0]) else "-sname"
    protocol = "inet6_tls" if ":" in nodes[0] else "inet_tls"
    return (
        f"\nstart a node with them:\n  erlmesh start --name {nodes[0]} {files}\n"
        f"  erl {form} {nodes[0]} -proto_dist {protocol} -ssl_dist_optfile {shlex.quote(str(folder / 'ssl_dist.conf'))}"
    )
