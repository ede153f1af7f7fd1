"""Parse the values of options, as users write them on the command line or in an environment variable.

Each parser takes the text and its source (``--net-ticktime``, ``ERLMESH_NET_TICKTIME``), and raises NodeStartError
with both if the text is not valid. No I/O, and nothing of asyncio: ``erlmesh health`` imports this module.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from erlmesh.errors import NodeStartError

__all__ = [
    "parse_byte_count",
    "parse_bytes",
    "parse_count",
    "parse_endpoint",
    "parse_list",
    "parse_log_format",
    "parse_pause",
    "parse_port",
    "parse_port_range",
    "parse_seconds",
    "parse_switch",
    "parse_text",
]

_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("0", "false", "no", "off")


def parse_seconds(text: str, source: str) -> float:
    """A positive, finite number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise NodeStartError(f"{source} is {text!r}: it must be a positive number of seconds, such as 60 or 2.5")
    return seconds


def parse_pause(text: str, source: str) -> float:
    """A finite number of seconds, 0 or more."""
    return 0.0 if text == "0" else parse_seconds(text, source)


def parse_bytes(text: str, source: str) -> int:
    """A number of bytes, at least 1 MiB."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1 << 20:
        raise NodeStartError(f"{source} is {text!r}: it must be a number of bytes, at least 1048576 (1 MiB)")
    return int(text)


def parse_byte_count(text: str, source: str) -> int:
    """A number of bytes: 0 or more."""
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise NodeStartError(f"{source} is {text!r}: it must be a number of bytes, 0 or more")
    return int(text)


def parse_count(text: str, source: str) -> int:
    """A number of things: 0 or more."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise NodeStartError(f"{source} is {text!r}: it must be a whole number, 0 or more")
    return int(text)


def parse_port(text: str, source: str) -> int:
    """A TCP port."""
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 65536:
        raise NodeStartError(f"{source} is {text!r}: a port is a number from 1 to 65535")
    return int(text)


def parse_port_range(first: str, last: str, source: str) -> range:
    """The ports from ``first`` to ``last``, both included."""
    low, high = parse_port(first, source), parse_port(last, source)
    if low > high:
        raise NodeStartError(f"{source} is {low}-{high}: the range is empty, the smaller number comes first")
    return range(low, high + 1)


def parse_endpoint(text: str, source: str) -> tuple[str, int]:
    """The host and the port to listen on, of ``[HOST:]PORT``. Without a host it is the loopback address."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise NodeStartError(f"{source} is {text!r}: an IPv6 address stands in brackets, [::1]:9100")
    if colon and not host:
        raise NodeStartError(f"{source} is {text!r}: it looks like 9100 or 127.0.0.1:9100; 0.0.0.0 is every address")
    return host or "127.0.0.1", parse_port(port, source)


def parse_log_format(text: str, source: str) -> str:
    """``text`` or ``json``."""
    if text not in ("text", "json"):
        raise NodeStartError(f"{source} is {text!r}: it must be text or json")
    return text


def parse_switch(value: str | bool, source: str) -> bool:
    """A yes or no. The command line gives a ``bool``, a variable one of true, yes, on, 1, false, no, off, 0."""
    if isinstance(value, bool):
        return value
    if value.lower() not in _TRUE + _FALSE:
        raise NodeStartError(f"{source} is {value!r}: it must be true or false")
    return value.lower() in _TRUE


def parse_text(text: str, _source: str) -> str:
    """A text as it is: a path, for example."""
    return text


def parse_list(value: str | Sequence[str], _source: str) -> list[str]:
    """Names that commas or spaces separate. The command line gives one text for each time the option is repeated."""
    texts = [value] if isinstance(value, str) else value
    return [item for text in texts for item in re.split(r"[,\s]+", text) if item]
