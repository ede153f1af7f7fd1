"""Python's own types ↔ Elixir's data: structs, dates and times, decimals, sets, ranges, exceptions.

``to_term(value)`` makes a term of a Python value, and ``from_term(term, type)`` makes a value of a type. The second
needs msgspec: ``pip install 'erlmesh[typed]'``.
"""

from erlmesh.typed.convert_error import ConvertError
from erlmesh.typed.exceptions import ElixirException
from erlmesh.typed.from_terms import from_term
from erlmesh.typed.structs import elixir_struct
from erlmesh.typed.to_terms import AtomEnum, keyword_list, to_term

__all__ = ["AtomEnum", "ConvertError", "ElixirException", "elixir_struct", "from_term", "keyword_list", "to_term"]
