"""Find the cookie. There is no default: a cookie that is published protects nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from erlmesh.errors import NodeStartError

__all__ = ["find_cookie", "read_cookie_file", "read_secret_file", "validated_cookie"]

_SECRETS_DIR: Final = Path("/run/secrets")  # Container engines mount secrets here, with file modes of their own.
_NO_COOKIE_HELP: Final = """\
no cookie: all nodes of a cluster share one secret. Make one with
    (umask 077; head -c 24 /dev/urandom | base64 | tr -d '/+=' > ~/.erlang.cookie)
and copy it to the other machines. Or name a file with --cookie-file or ERLMESH_COOKIE_FILE.
In a container, mount that file at /run/secrets/cookie"""


def find_cookie(cookie: str | None, cookie_file: str | None, environment: Mapping[str, str]) -> str:
    """The cookie from the first of these sources:

    1. ``--cookie``, ``--cookie-file``
    2. ERLMESH_COOKIE_FILE, ERLMESH_COOKIE
    3. the two files of OTP (auth.erl): ``~/.erlang.cookie``, and ``erlang/.erlang.cookie`` in the user's configuration
    4. ``/run/secrets/cookie``, the secret of a container

    Raises NodeStartError, which says how to make a cookie or how to protect the file.
    """
    if cookie is not None:
        return validated_cookie(cookie, "--cookie")
    if named := cookie_file or environment.get("ERLMESH_COOKIE_FILE"):
        return read_cookie_file(Path(named).expanduser())
    if found := environment.get("ERLMESH_COOKIE"):
        return validated_cookie(found, "ERLMESH_COOKIE")
    for file in (*_otp_cookie_files(environment), _SECRETS_DIR / "cookie"):
        if file.exists():
            return read_cookie_file(file)
    raise NodeStartError(_NO_COOKIE_HELP)


def read_cookie_file(file: Path) -> str:
    """The cookie in ``file``. Raises NodeStartError if it cannot be read, or if other users can read it.

    As in OTP (``auth.erl``, ``check_cookie``), blanks belong to the cookie, also at its beginning and end. Only line
    ends, and blanks behind the first one, are dropped.
    """
    cookie, _, rest = read_secret_file(file).replace("\r", "\n").partition("\n")
    if rest.strip(" \n"):
        cookie = f"{cookie}\n{rest}"  # it is refused, with the reason
    return validated_cookie(cookie, str(file))


def read_secret_file(file: Path, what: str = "cookie") -> str:
    """The text of a file with a secret. Raises NodeStartError if it cannot be read, or if other users can read it."""
    try:
        status = file.stat()
        _check_owner(file, status)
        if _is_readable_by_others(file, status):
            raise NodeStartError(f"other users can read the {what} in {file}: protect it with\n    chmod 600 {file}")
        return file.read_text(encoding="latin-1")
    except FileNotFoundError:
        raise NodeStartError(f"there is no {what} file {file}: check the path, or make the file") from None
    except PermissionError:
        raise NodeStartError(
            f"the {what} file {file} belongs to user {_owner(file)}, and user {os.geteuid()} may not read it. "
            "A file that is mounted into a container keeps its owner and mode: chmod 444 it in a folder of mode 700"
        ) from None
    except IsADirectoryError:
        raise NodeStartError(
            f"the {what} file {file} is a folder: Docker makes one if the file to mount does not exist. Remove the "
            "folder, make the file, and start a new container"
        ) from None
    except OSError as error:
        raise NodeStartError(f"cannot read the cookie file {file}: {error.strerror}") from None


def _is_readable_by_others(file: Path, status: os.stat_result) -> bool:
    """OTP's check of the mode. A file of root, or one that a container engine mounts, is not ours to protect."""
    mounted = _SECRETS_DIR in file.parents or status.st_uid != os.geteuid()
    return bool(stat.S_IMODE(status.st_mode) & 0o077) and not mounted


def _check_owner(file: Path, status: os.stat_result) -> None:
    """Raise NodeStartError if another user may decide about the content of ``file``."""
    is_mounted = _SECRETS_DIR in file.parents  # the owner is a user of the machine outside of the container
    if status.st_uid not in (os.geteuid(), 0) and not is_mounted:
        raise NodeStartError(
            f"the cookie file {file} belongs to user {status.st_uid}, who could change it: it must belong to user "
            f"{os.geteuid()} or to root"
        )
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise NodeStartError(f"other users can change the cookie in {file}: protect it with\n    chmod 600 {file}")


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


def validated_cookie(cookie: str, source: str) -> str:
    """Return ``cookie``. Raises NodeStartError, which names ``source``, if it cannot be one."""
    if not cookie:
        raise NodeStartError(f"the cookie of {source} is empty")
    if len(cookie) > 255 or not (cookie.isascii() and cookie.isprintable()):
        raise NodeStartError(f"the cookie of {source} must be one line of at most 255 printable ASCII characters")
    return cookie
