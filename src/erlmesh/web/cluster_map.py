"""The map of a running cluster: a collector, the server of its page, and a recording if one is wanted."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from erlmesh.errors import NodeStartError
from erlmesh.records import record
from erlmesh.services.viewing.collector import Collector
from erlmesh.terms import Pid
from erlmesh.web.addresses import LOOPBACK, is_loopback_name
from erlmesh.web.control import Control
from erlmesh.web.encodings import Encodings
from erlmesh.web.guard import MIN_TOKEN, Guard
from erlmesh.web.recorder import RECORDING_LIMIT, Recorder
from erlmesh.web.viewers import Viewer

if TYPE_CHECKING:
    from erlmesh.core.cluster_view.cluster import Updates
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.pg.server import Pg
    from erlmesh.web.server import MapServer, Source

__all__ = ["ClusterMap", "MapSettings", "Page", "map_token"]


@record(frozen=True)
class MapSettings:
    """Where and how a map is served."""

    host: str = LOOPBACK
    port: int = 0
    """0 is a free one."""
    token: str | None = None
    """What a viewer must know. None makes one on another address than loopback, and with buttons."""
    control: bool = False
    """Whether the page has buttons that act on the cluster."""
    record: Path | None = None
    record_limit: int = RECORDING_LIMIT


def map_token(settings: MapSettings) -> str | None:
    """Return the token of a map; None if none is needed. Raises NodeStartError for one that is too short."""
    token = settings.token
    if token is not None and len(token) < MIN_TOKEN:
        raise NodeStartError(f"the token of the map has {len(token)} characters: it needs at least {MIN_TOKEN}")
    # Each user of this machine reaches loopback, but may not know the cookie of the cluster that the buttons act on.
    is_needed = settings.control or not is_loopback_name(settings.host)
    return secrets.token_urlsafe(24) if token is None and is_needed else token


class Page:
    """The page of one source. Raises NodeStartError without the extra ``web``, and for a token that is too short."""

    def __init__(self, source: Source, settings: MapSettings, control: Control | None, csrf: str) -> None:
        try:
            from erlmesh.web.server import MapServer  # noqa: PLC0415 - h11 may be missing
        except ImportError as error:
            raise NodeStartError(f"the map needs h11 ({error}): pip install 'erlmesh[web]'") from error
        self._settings = settings
        self._token = map_token(settings)
        make_guard: Callable[[int], Guard] = lambda port: Guard(self._token, csrf, port)  # noqa: E731
        self._server: MapServer = MapServer(source, make_guard, settings.host, settings.port, control)

    async def start(self) -> None:
        """Listen. Raises NodeStartError."""
        await self._server.start()

    async def close(self) -> None:
        """End all requests."""
        await self._server.close()

    @property
    def url(self) -> str:
        """The address to open. It ends with the token, if one is needed."""
        host = self._settings.host
        shown = LOOPBACK if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104 - compared
        query = "" if self._token is None else f"?token={quote(self._token, safe='')}"
        return f"http://{shown}:{self._server.port}/{query}"


class ClusterMap:
    """The map that ``node.map()`` returns. ::

        async with node.map(port=4380) as page:
            print(page.url)

    ``subscribe_view`` is that of :class:`~erlmesh.services.viewing.collector.Collector`.
    """

    def __init__(
        self, runtime: Runtime, pg: Pg, subscribe_view: Callable[[Pid], Pid] | None, settings: MapSettings
    ) -> None:
        self.collector = Collector(runtime, pg, subscribe_view)
        self._settings = settings
        self._csrf = secrets.token_urlsafe(24)
        control = Control(runtime, self.collector) if settings.control else None
        self._page = Page(self, settings, control, self._csrf)
        self._viewers: dict[Viewer, None] = {}
        self._encodings = Encodings()
        self._recorder: Recorder | None = None
        if settings.record is not None:
            self._recorder = Recorder(
                settings.record, self._recorded, self.collector.cluster.report, time.time, settings.record_limit
            )

    @property
    def url(self) -> str:
        """The address of the page. It ends with the token, if one is needed."""
        return self._page.url

    def recording_parts(self) -> None:
        """A running cluster has no recording to show."""

    async def start(self) -> None:
        """Start to look, and serve the page. Raises NodeStartError."""
        await self._page.start()
        try:
            if self._recorder is not None:
                self._recorder.start()
        except NodeStartError:
            await self._page.close()
            raise
        self.collector.start()
        self.collector.add_listener(self._changed)

    async def close(self) -> None:
        """Serve no more, and look no more."""
        self.collector.close()
        await self._page.close()
        if self._recorder is not None:
            self._recorder.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def new_viewer(self) -> tuple[Viewer, Callable[[], None]]:
        """See :class:`erlmesh.web.server.Source`."""
        viewer = Viewer(self._snapshot, self.collector.cluster.report, self._encodings)
        self._viewers[viewer] = None

        def remove() -> None:
            self._viewers.pop(viewer, None)
            if not self._viewers:
                self._encodings.clear()

        return viewer, remove

    def _changed(self, updates: Updates) -> None:
        for viewer in self._viewers:
            viewer.add(updates)
        for name in updates.gone:
            self._encodings.forget(name)
        if self._recorder is not None:
            self._recorder.add(updates)

    def _snapshot(self) -> bytes:
        control = self._settings.control
        found = self.collector.cluster.snapshot(time.time())
        more = {"control": control, "csrf": self._csrf if control else None, "recorded": False}
        return self._encodings.snapshot({**found, **more})

    def _recorded(self) -> dict[str, Any]:
        """The snapshot in a recording: it has no secret."""
        return {**self.collector.cluster.snapshot(time.time()), "control": False, "csrf": None, "recorded": True}
