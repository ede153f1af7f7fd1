"""The tags of the external term format, under their names in the Erlang manual (erts, "External Term Format")."""

from __future__ import annotations

from typing import Final

VERSION: Final = 131  # the first byte of every standalone term

ATOM_CACHE_REF: Final = 82
SMALL_INTEGER_EXT: Final = 97
INTEGER_EXT: Final = 98
FLOAT_EXT: Final = 99  # text; decoded only
NEW_FLOAT_EXT: Final = 70
SMALL_BIG_EXT: Final = 110
LARGE_BIG_EXT: Final = 111
ATOM_EXT: Final = 100  # Latin-1; decoded only
SMALL_ATOM_EXT: Final = 115  # Latin-1; decoded only
ATOM_UTF8_EXT: Final = 118
SMALL_ATOM_UTF8_EXT: Final = 119
SMALL_TUPLE_EXT: Final = 104
LARGE_TUPLE_EXT: Final = 105
NIL_EXT: Final = 106
STRING_EXT: Final = 107
LIST_EXT: Final = 108
BINARY_EXT: Final = 109
BIT_BINARY_EXT: Final = 77
MAP_EXT: Final = 116
PID_EXT: Final = 103  # the creation has one byte; decoded only, like the next three
PORT_EXT: Final = 102
REFERENCE_EXT: Final = 101
NEW_REFERENCE_EXT: Final = 114
NEW_PID_EXT: Final = 88
NEW_PORT_EXT: Final = 89
V4_PORT_EXT: Final = 120
NEWER_REFERENCE_EXT: Final = 90
NEW_FUN_EXT: Final = 112
EXPORT_EXT: Final = 113
COMPRESSED: Final = 80  # standalone terms only
