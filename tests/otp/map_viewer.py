"""A browser without a window: it reads the server-sent events of a map, and keeps the reports as the page does."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from typing import Any

__all__ = ["MapViewer"]


class MapViewer:
    """Reads the map on ``port`` of 127.0.0.1 until :meth:`close`, or until the server ends."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._connection.request("GET", "/events", headers=headers)
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        if self._answer.status != 200:
            text = self._answer.read()
            self._connection.close()
            raise AssertionError(text)
        self.snapshot: dict[str, Any] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.now = 0.0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def texts(self, kind: str) -> list[str]:
        """The sentences of all events of a kind."""
        return [event["text"] for event in list(self.events) if event["kind"] == kind]

    def link(self, node: str, peer: str) -> str | None:
        """The state of a link as ``node`` sees it."""
        return self.reports.get(node, {}).get("links", {}).get(peer, {}).get("state")

    def groups(self, node: str) -> dict[str, list[tuple[str, str]]]:
        """The groups as ``node`` sees them: the nodes and pids of their members."""
        return {
            group["group"]: [(member["node"], member["pid"]) for member in group["members"]]
            for group in self.reports.get(node, {}).get("groups", [])
        }

    def close(self) -> None:
        """Look no more."""
        with contextlib.suppress(OSError):  # the server has closed it
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._answer.close()
        self._connection.close()

    def _read(self) -> None:
        kind = ""
        try:
            for line in self._answer:
                if line.startswith(b"event: "):
                    kind = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    self._apply(kind, json.loads(line[6:]))
        except (OSError, ValueError, http.client.HTTPException):
            pass

    def _apply(self, kind: str, data: dict[str, Any]) -> None:
        match kind:
            case "snapshot":
                self.snapshot, self.reports, self.events = data, data["reports"], data["events"]
            case "report":
                name = data["report"]["node"]
                self.reports[name] = {**self.reports.get(name, {}), **data["report"]}
            case "gone":
                self.reports.pop(data["node"], None)
            case "event":
                self.events.append(data["event"])
            case "clock":
                self.now = data["now"]
