"""The messages by which nodes copy the state of a shard, in Erlang's form. Name is a binary, From the pid to answer::

    from           to        message
    holder         backup    {shard_give, Name, Shard, Slice, More, Bytes, From}     a slice of a snapshot
    backup         holder    {shard_took, Name, Shard, Slice, From}                  it has read the slice
    holder         backup    {shard_copy, Name, Shard, N, Key, Source, Number, Time, Message, From}
    backup         holder    {shard_copied, Name, Shard, N, From}                    it has applied all up to N
    holder         backup    {shard_adopt, Name, Shard, Versions, Lineage, From}     your copy is mine, if it is equal
    backup         holder    {shard_adopted, Name, Shard, Equal, From}
    holder         any copy  {shard_copies, Name, Shard, Versions, From}             give me what I do not have
    any copy       holder    {shard_give, …}, answered as above
    holder         any copy  {shard_forget, Name, Shard, Versions, From}             forget what these versions include
    any copy       holder    {shard_forgot, Name, Shard, All, From}                  whether all is forgotten
    any copy       holder    {shard_more, Name, Shard, From}                         ask me: another holder is gone
    holder         backup    {shard_done, Name, Shard, Key, Source, Number, From}    the receivers have these results

A node that the state moves to is a *backup* here until it holds the shard. ``N`` counts the messages that the
holder has applied. ``Time`` is in milliseconds since 1970. ``Versions`` are those of a
:class:`~erlmesh.core.sharding.store.Store`. See :mod:`erlmesh.core.sharding.snapshot` for the bytes of a slice.
"""

from __future__ import annotations

from typing import Final

from erlmesh.terms import Atom

__all__ = [
    "ADOPT",
    "ADOPTED",
    "COPIED",
    "COPIES",
    "COPY",
    "DONE",
    "FORGET",
    "FORGOT",
    "GIVE",
    "MORE",
    "TOOK",
]

GIVE: Final = Atom("shard_give")
TOOK: Final = Atom("shard_took")
COPY: Final = Atom("shard_copy")
COPIED: Final = Atom("shard_copied")
ADOPT: Final = Atom("shard_adopt")
ADOPTED: Final = Atom("shard_adopted")
COPIES: Final = Atom("shard_copies")
FORGET: Final = Atom("shard_forget")
FORGOT: Final = Atom("shard_forgot")
MORE: Final = Atom("shard_more")
DONE: Final = Atom("shard_done")
