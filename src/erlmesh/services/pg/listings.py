"""What queries of one group have built, kept until the group changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from erlmesh.core.sharding.rendezvous import Rendezvous
    from erlmesh.services.pg.pick_list import PickList
    from erlmesh.terms import Pid

__all__ = ["Listing"]


class Listing:
    """The lists of one group that queries have built. Each is None until a query needs it.

    A change of the group drops the tuples and the nodes. The arrays for picks follow the change.
    """

    __slots__ = ("local", "local_picks", "members", "picks", "recipients", "rendezvous")

    def __init__(self) -> None:
        self.members: tuple[Pid, ...] | None = None
        """The members on all nodes, newest first, with multiplicity."""
        self.local: tuple[Pid, ...] | None = None
        """The members on this node, newest first, with multiplicity."""
        self.recipients: tuple[Pid, ...] | None = None
        """Every member once."""
        self.rendezvous: Rendezvous | None = None
        """The nodes of the members, for owners."""
        self.picks: PickList | None = None
        """The members on all nodes, for picks."""
        self.local_picks: PickList | None = None
        """The members on this node, for picks."""

    def drop_tuples(self) -> bool:
        """Drop what a change of the group makes wrong. False if nothing is left."""
        self.members = self.local = self.recipients = self.rendezvous = None
        return self.picks is not None or self.local_picks is not None
