"""Erlang terms that Python has no type for. They are frozen values with equality, order and a printed form only.

This table shows the Python form of every term. The codec in :mod:`erlmesh.etf` follows it in both directions:

==================  =========================================  =================================
Erlang              is received as                             is also accepted for sending
==================  =========================================  =================================
integer             ``int``                                    ``IntEnum``
float               ``float`` (finite)
atom                :class:`Atom`
``true``/``false``  ``True`` / ``False``                       ``Atom("true")``, ``Atom("false")``
tuple               ``tuple``                                  ``NamedTuple``
list                ``list`` (a "string" is a list of ints)
improper list       :class:`ImproperList`
binary              ``bytes``                                  ``str`` (UTF-8), ``bytearray``, ``memoryview``
bitstring           :class:`BitString`
map                 :class:`Map`                               ``dict``
pid, port, ref      :class:`Pid`, :class:`Port`, :class:`Ref`
fun, export         :class:`Fun`, :class:`Export`
==================  =========================================  =================================

``None`` is not a term. Erlang uses ``undefined`` and Elixir uses ``nil``, so the sender must choose an :class:`Atom`.

A ``str`` is an atom where Erlang requires an atom, and a binary everywhere else:

===========================================  ==============  ==========================
argument                                     ``"text"`` is   for the other, write
===========================================  ==============  ==========================
node, registered name, scope                 an atom         (always an atom)
module and function of ``rpc``, ``spawn``    an atom         (always an atom)
group of ``pg`` and ``pg2``, global name     a binary        ``Atom("text")``
message, request, argument of a call         a binary        ``Atom("text")``
===========================================  ==============  ==========================

An :class:`Atom` is never equal to a ``str``: ``pid.node == "plato@127.0.0.1"`` is False.

Python's ``==`` treats ``1``, ``1.0`` and ``True`` as equal; Erlang's ``=:=`` does not. :func:`exact_key` returns a
dictionary key that distinguishes terms as Erlang does. :func:`sort_key` sorts terms in Erlang's order.
"""

from __future__ import annotations

from erlmesh.terms.atoms import MAX_ATOM_CHARACTERS, Atom
from erlmesh.terms.erlang import format_erlang as _erlang  # noqa: F401 - registers the formatters that `str` uses
from erlmesh.terms.maps import Map, exact_key
from erlmesh.terms.order import sort_key
from erlmesh.terms.sendable import SendableTerm
from erlmesh.terms.values import BitString, Export, Fun, ImproperList, Pid, Port, Ref, Term

__all__ = [
    "MAX_ATOM_CHARACTERS",
    "Atom",
    "BitString",
    "Export",
    "Fun",
    "ImproperList",
    "Map",
    "Pid",
    "Port",
    "Ref",
    "SendableTerm",
    "Term",
    "exact_key",
    "sort_key",
]
