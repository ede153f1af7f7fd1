"""The native part of erlmesh, if it is installed and fits. This is decided once, when this module is imported.

The package ``erlmesh-native`` (``pip install 'erlmesh[native]'``) has the codec and the identifiers in Rust. Without
it, erlmesh does the same in pure Python. ``ERLMESH_PURE=1`` in the environment forces that. A package that does not fit
is not used: a warning says why, and nothing is raised.
"""

from __future__ import annotations

import importlib
import os
import warnings

from erlmesh.version import __version__

TYPE_CHECKING = False  # type checkers take it as true; `typing` is not imported for `erlmesh --version`
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["description", "module", "reason"]


def _load() -> tuple[Any, str]:
    """Return the module ``erlmesh_native``, or None and the reason."""
    if os.environ.get("ERLMESH_PURE", "") not in ("", "0"):
        return None, f"ERLMESH_PURE={os.environ['ERLMESH_PURE']} is set"
    try:
        loaded = importlib.import_module("erlmesh_native")
    except ModuleNotFoundError as error:
        if error.name == "erlmesh_native":
            return None, "erlmesh-native is not installed"
        return None, _refuse(f"erlmesh-native cannot be imported: {error}")
    except Exception as error:  # a file of another platform, or half an installation
        return None, _refuse(f"erlmesh-native cannot be imported: {error}")
    found = getattr(loaded, "__version__", None)
    if found != __version__:
        return None, _refuse(
            f"erlmesh-native has version {found}, but erlmesh has version {__version__}: "
            "install both again with  pip install --upgrade 'erlmesh[native]'"
        )
    return loaded, ""


def _refuse(problem: str) -> str:
    """Warn, and return the problem as the reason."""
    with warnings.catch_warnings():  # under -W error this is printed too, so that the import of erlmesh succeeds
        warnings.simplefilter("always", RuntimeWarning)
        warnings.warn(f"{problem}. erlmesh runs in pure Python", RuntimeWarning, stacklevel=2)
    return problem


_loaded: Final = _load()

module: Final[Any] = _loaded[0]
"""The module ``erlmesh_native``, or None: then the pure Python code is used."""

reason: Final[str] = _loaded[1]
"""Why the native part is not used. Empty if it is used."""

description: Final[str] = f"native (erlmesh-native {__version__})" if module is not None else f"pure Python ({reason})"
"""Which build runs, for people."""
