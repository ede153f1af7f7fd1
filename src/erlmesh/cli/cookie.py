"""Where the cookie comes from. There is no default one: a cookie that everybody knows is none."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from erlmesh.errors import NodeStartError

__all__ = ["find_cookie", "read_cookie_file", "read_secret_file"]

_SECRETS_DIR: Final = Path("/run/secrets")  # where containers put secrets, with modes of their own
_NO_COOKIE_HELP: Final = """\
no cookie: all nodes of a cluster share one secret. Make one with
    (umask 077; head -c 24 /dev/urandom | base64 | tr -d '/+=' > ~/.erlang.cookie)
and copy it to the other machines, or name a file with --cookie-file or ERLMESH_COOKIE_FILE;
for a container mount that file at /run/secrets/cookie"""


def find_cookie(cookie: str | None, cookie_file: str | None, environment: Mapping[str, str]) -> str:
    """The first of: ``--cookie``, ``--cookie-file``, ERLMESH_COOKIE_FILE, ERLMESH_COOKIE, the two files OTP looks
    for (auth.erl): ``~/.erlang.cookie`` and ``erlang/.erlang.cookie`` under the user's configuration, and the secret
    ``cookie`` of a container.

    Raises NodeStartError, which says how to make a cookie or how to protect the file.
    """
    if cookie is not None:
        return _validated(cookie, "--cookie")
    if named := cookie_file or environment.get("ERLMESH_COOKIE_FILE"):
        return read_cookie_file(Path(named).expanduser())
    if found := environment.get("ERLMESH_COOKIE"):
        return _validated(found, "ERLMESH_COOKIE")
    for file in (*_otp_cookie_files(environment), _SECRETS_DIR / "cookie"):
        if file.exists():
            return read_cookie_file(file)
    raise NodeStartError(_NO_COOKIE_HELP)


def read_cookie_file(file: Path) -> str:
    """The cookie in ``file``. Raises NodeStartError if it cannot be read, or can be by others."""
    return _validated(read_secret_file(file).strip(), str(file))


def read_secret_file(file: Path) -> str:
    """The text of a file with a secret. Raises NodeStartError if it cannot be read, or can be by others."""
    try:
        status = file.stat()
        if _is_readable_by_others(file, status):
            raise NodeStartError(f"others can read the cookie in {file}; protect it with\n    chmod 600 {file}")
        return file.read_text(encoding="latin-1")
    except FileNotFoundError:
        raise NodeStartError(f"there is no cookie file {file}") from None
    except PermissionError:
        raise NodeStartError(
            f"the cookie file {file} belongs to user {_owner(file)} and user {os.geteuid()} may not read it; "
            "a file mounted into a container keeps its owner and mode: chmod 444 it inside a folder of mode 700"
        ) from None
    except IsADirectoryError:
        raise NodeStartError(
            f"the cookie file {file} is a folder; Docker makes one where a file that is to be mounted does not exist: "
            "make the file, remove the folder that stands in its place, and start a new container"
        ) from None
    except OSError as error:
        raise NodeStartError(f"cannot read the cookie file {file}: {error.strerror}") from None


def _is_readable_by_others(file: Path, status: os.stat_result) -> bool:
    """As OTP does; but a file that is not ours was mounted for us, and its mode is not ours to set."""
    mounted = _SECRETS_DIR in file.parents or status.st_uid != os.geteuid()
    return bool(stat.S_IMODE(status.st_mode) & 0o077) and not mounted


def _owner(file: Path) -> str:
    try:
        return str(file.stat().st_uid)
    except OSError:
        return "?"


def _otp_cookie_files(environment: Mapping[str, str]) -> list[Path]:
    home = environment.get("HOME")
    config = environment.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else None)
    files = [Path(home) / ".erlang.cookie"] if home else []
    return [*files, Path(config) / "erlang" / ".erlang.cookie"] if config else files


def _validated(cookie: str, source: str) -> str:
    if not cookie:
        raise NodeStartError(f"the cookie of {source} is empty")
    if len(cookie) > 255 or not (cookie.isascii() and cookie.isprintable()):
        raise NodeStartError(f"the cookie of {source} must be one line of at most 255 printable ASCII characters")
    return cookie
