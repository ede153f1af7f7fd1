"""The version of erlmesh. The build and the native part read it from here."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
