"""Erlang terms that Python has no type for: frozen values, no behaviour beyond equality, order and print.

How every term looks in Python (the codec in :mod:`erlmesh.etf` keeps this table, both ways):

==================  =========================================  =================================
Erlang              arrives as                                 is also accepted when sending
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

``None`` is no term: Erlang says ``undefined`` and Elixir ``nil``, so the sender has to choose an :class:`Atom`.

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

Python's ``==`` takes ``1``, ``1.0`` and ``True`` for one value and Erlang's ``=:=`` does not: :func:`exact` gives a
dictionary key that tells terms apart as Erlang does, :func:`sort_key` sorts them in Erlang's order.
"""

from __future__ import annotations

from erlmesh.terms.atoms import MAX_ATOM_CHARACTERS, Atom
from erlmesh.terms.erlang import format_erlang as _erlang  # noqa: F401 - fills the table that `str` of a term prints by
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
