"""What the buttons of the page do, if they are allowed. Each use is logged, and is an event that all viewers see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from erlmesh.core.cluster_view.texts import name_text, parse_pid
from erlmesh.core.exit_reasons import KILL
from erlmesh.errors import CallError
from erlmesh.net.event_log import event_log
from erlmesh.services.rpc.client import call
from erlmesh.services.viewing.collector import Collector
from erlmesh.terms import Atom
from erlmesh.terms.foreign_text import foreign_text, printable_sentence

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Control"]

log = event_log("erlmesh.map")

CALL_TIMEOUT: Final = 5.0


class Control:
    """The actions on the nodes that ``collector`` knows. They raise ``ValueError`` for a wrong argument."""

    def __init__(self, runtime: Runtime, collector: Collector) -> None:
        self._runtime = runtime
        self._collector = collector
        self.actions: dict[str, Callable[[Mapping[str, Any]], Awaitable[tuple[bool, str]]]] = {
            "ping": self._ping,
            "disconnect": self._disconnect,
            "end": self._end,
        }

    async def run(self, action: str, body: Mapping[str, Any], viewer: str) -> tuple[bool, str]:
        """Do it. Return whether it was done, and a sentence for the user. ``viewer`` is the address in the log."""
        try:
            done, text = await self.actions[action](body)
        except ValueError as error:
            done, text = False, f"{error}."
        text = printable_sentence(text)
        log.warning("map_button", "%s has used the button %s: %s", viewer, action, text)
        self._collector.note_control(name_text(body.get("node", "")), text)
        return done, text

    async def _ping(self, body: Mapping[str, Any]) -> tuple[bool, str]:
        shown, node = self._node(body, "node")
        try:
            await call(self._runtime, node, "erlang", "node", [], timeout=CALL_TIMEOUT)
        except CallError as error:
            return False, f"{shown} does not answer: {error}."
        return True, f"{shown} answers."

    async def _disconnect(self, body: Mapping[str, Any]) -> tuple[bool, str]:
        shown, node = self._node(body, "node")
        shown_peer, peer = self._node(body, "peer")
        own = self._runtime.name
        if own in (node, peer):
            done = self._runtime.disconnect(peer if node == own else node)
            return done, f"{shown} is disconnected from {shown_peer}." if done else "There was no connection."
        for one, other in ((node, peer), (peer, node)):  # A Python node lets no other node disconnect it.
            report = self._collector.cluster.report(name_text(one))
            if report is not None and report["kind"] == "beam":
                return await self._ask_to_disconnect(one, other)
        return False, "Python nodes cannot be asked to disconnect: use the map of one of the two nodes."

    async def _ask_to_disconnect(self, node: str, peer: str) -> tuple[bool, str]:
        try:
            done = await call(self._runtime, node, "erlang", "disconnect_node", [Atom(peer)], timeout=CALL_TIMEOUT)
        except CallError as error:
            return False, f"{node} does not answer: {error}."
        return done is True, f"{node} {'has disconnected' if done is True else 'was not connected with'} {peer}."

    async def _end(self, body: Mapping[str, Any]) -> tuple[bool, str]:
        shown, node = self._node(body, "node")
        creation = self._runtime.creation_of(node)
        if creation is None:
            return False, f"{shown} is not connected."
        pid = parse_pid(str(body.get("pid", "")), node, creation)
        self._runtime.exit(pid, KILL)
        return True, f"The process {body['pid']} of {shown} was sent the exit signal kill."

    def _node(self, body: Mapping[str, Any], key: str) -> tuple[str, str]:
        """Return the shown name and the name of a node of the map."""
        shown = body.get(key)
        name = self._collector.node_name(shown) if isinstance(shown, str) else None
        if not isinstance(shown, str) or name is None:
            raise ValueError(f"there is no node {foreign_text(shown)} on this map")
        return shown, name
