"""The options file of OTP's TLS distribution: ``erl -proto_dist inet_tls -ssl_dist_optfile FILE``. No I/O."""

from __future__ import annotations

__all__ = ["optfile_text"]

_TEMPLATE = """\
%% erl -proto_dist inet_tls -ssl_dist_optfile THIS-FILE
[{{server, [{{certfile, {certificate}}},
           {{keyfile, {key}}},
           {{cacertfile, {authority}}},
           {{versions, ['tlsv1.3', 'tlsv1.2']}},
           {{verify, verify_peer}},
           {{fail_if_no_peer_cert, true}}]}},
 {{client, [{{certfile, {certificate}}},
           {{keyfile, {key}}},
           {{cacertfile, {authority}}},
           {{versions, ['tlsv1.3', 'tlsv1.2']}},
           {{verify, verify_peer}}]}}].
"""


def optfile_text(certificate: str, key: str, authority: str) -> str:
    """Return the options for both directions. Both nodes must have a certificate of the CA.

    The arguments are absolute paths, because Erlang finds relative paths from the folder in which it was started.
    """
    return _TEMPLATE.format(certificate=_string(certificate), key=_string(key), authority=_string(authority))


def _string(text: str) -> str:
    """Return an Erlang string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
