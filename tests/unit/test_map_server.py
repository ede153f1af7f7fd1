"""Which requests the page answers, and what a viewer gets. A real server and a real client on loopback."""

import asyncio
import contextlib
import functools
import json
import logging
import socket

import aiohttp
import pytest

from erlmesh.core.cluster_view.cluster import Updates
from erlmesh.web import server as server_module
from erlmesh.web.addresses import host_of_header, is_loopback_name
from erlmesh.web.cluster_map import MapSettings, map_token
from erlmesh.web.encodings import Encodings
from erlmesh.web.guard import MIN_TOKEN, Guard
from erlmesh.web.http_request import MAX_FIELDS, MAX_HEAD, Request, parse_head
from erlmesh.web.server import MAX_CONNECTIONS, MAX_VIEWERS, SEND_BUFFER, MapServer
from erlmesh.web.viewers import MAX_WAITING_EVENTS, Viewer

TOKEN, CSRF = "a token of 32 characters 12345678", "csrf"
EVENT = {"id": 1, "kind": "joined", "text": "…"}


class FakeSource:
    """A cluster of one node."""

    recording = None

    def recording_parts(self):
        return None if self.recording is None else [(self.recording, self.recording.stat().st_size)]

    def __init__(self):
        self.viewers = []
        self.reports = {"plato@h": {"node": "plato@h", "groups": [1], "names": {}, "shards": {}, "more_groups": 0}}
        self.encodings = Encodings()

    def snapshot(self):
        return self.encodings.snapshot({"schema": 1, "reports": self.reports, "events": []})

    def new_viewer(self):
        viewer = Viewer(self.snapshot, self.reports.get, self.encodings)
        self.viewers.append(viewer)
        return viewer, lambda: self.viewers.remove(viewer)

    def change(self, updates):
        for viewer in self.viewers:
            viewer.add(updates)


class FakeControl:
    def __init__(self):
        self.actions = {"ping": None}
        self.used = []

    async def run(self, action, body, viewer):
        self.used.append((action, body))
        return True, "done."


def served(token=None, control=None):
    """Run ``test(server, source, ask)``. ``ask(path, **headers)`` returns a status, the text and the headers."""

    def decorate(test):
        @functools.wraps(test)
        def wrapped():
            async def main():
                source = FakeSource()
                buttons = FakeControl() if control else None
                server = MapServer(source, lambda port: Guard(token, CSRF, port), "127.0.0.1", 0, buttons)
                await server.start()
                try:
                    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:

                        async def ask(path, method="GET", data=None, **headers):
                            headers = {key.replace("_", "-"): value for key, value in headers.items()}
                            async with session.request(
                                method, path, headers=headers, data=data, allow_redirects=False
                            ) as answer:
                                return answer.status, await answer.text(), answer.headers

                        source.session, source.control = session, buttons
                        await test(server, source, ask)
                finally:
                    await server.close()

            asyncio.run(main())

        del wrapped.__wrapped__
        return wrapped

    return decorate


async def read_event(answer):
    """The next server-sent event: its kind and its data."""
    kind = None
    async with asyncio.timeout(10):
        async for line in answer.content:
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                return kind, json.loads(line[6:])
    raise AssertionError("the stream has ended")


# Which requests are answered


@served()
async def test_every_answer_forbids_what_the_page_does_not_need(server, source, ask):
    for path in ("/", "/static/nothing.js", "/nothing", "/recording"):
        _, _, headers = await ask(path)
        assert headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "DENY"


@served()
async def test_a_name_that_resolves_to_loopback_is_refused(server, source, ask):
    status, text, _ = await ask("/events", Host="evil.example:80")

    assert status == 403
    assert "127.0.0.1" in text
    assert source.viewers == []


@served()
async def test_another_origin_is_refused(server, source, ask):
    for header in (
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ):
        status, _, _ = await ask("/events", **header)
        assert status == 403


@served()
async def test_the_own_origin_is_answered(server, source, ask):
    own = f"http://127.0.0.1:{server.port}"
    async with source.session.get("/events", headers={"Origin": own, "Sec-Fetch-Site": "same-origin"}) as answer:
        assert answer.status == 200


@served(token=TOKEN)
async def test_without_the_token_nothing_is_answered(server, source, ask):
    for path in ("/", "/events", "/static/main.js", "/recording", "/?token=wrong", "/favicon.ico"):
        status, text, headers = await ask(path)
        assert status == 401
        assert TOKEN not in text
        assert "Set-Cookie" not in headers


@served(token=TOKEN)
async def test_the_token_goes_from_the_address_into_a_cookie(server, source, ask):
    async with source.session.get("/", params={"token": TOKEN}, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie  # noqa: PT018

    name, _, value = cookie.partition(";")[0].partition("=")
    status, _, _ = await ask("/", Cookie=f"{name}={value}")
    assert status == 200


@served()
async def test_a_page_without_a_token_sets_no_cookie(server, source, ask):
    _, _, headers = await ask("/?token=chosen")

    assert "Set-Cookie" not in headers


@served(token=TOKEN)
async def test_a_program_gives_the_token_as_bearer(server, source, ask):
    assert (await ask("/", Authorization=f"Bearer {TOKEN}"))[0] == 200


@served()
async def test_a_path_outside_of_the_page_is_not_found(server, source, ask):
    for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd", "/static/..%2fserver.py"):
        assert (await ask(path))[0] == 404


# Buttons


@served(control=True)
async def test_a_button_needs_the_csrf_token_and_json(server, source, ask):
    body = json.dumps({"node": "plato@h"})
    json_type = {"Content_Type": "application/json"}
    assert (await ask("/control/ping", "POST", body, **json_type))[0] == 403
    assert (await ask("/control/ping", "POST", body, X_CSRF_Token=CSRF))[0] == 415
    assert (await ask("/control/ping", "POST", "[", X_CSRF_Token=CSRF, **json_type))[0] == 400
    assert (await ask("/control/ping", "POST", "9" * 5000, X_CSRF_Token=CSRF, **json_type))[0] == 413
    assert (await ask("/control/nothing", "POST", body, X_CSRF_Token=CSRF, **json_type))[0] == 404
    assert (await ask("/control/ping", "GET", X_CSRF_Token=CSRF))[0] == 405
    assert source.control.used == []

    status, text, _ = await ask("/control/ping", "POST", body, X_CSRF_Token=CSRF, **json_type)
    assert (status, json.loads(text)) == (200, {"ok": True, "text": "done."})
    assert source.control.used == [("ping", {"node": "plato@h"})]


def test_buttons_need_a_token_also_on_loopback():
    assert map_token(MapSettings()) is None
    assert len(map_token(MapSettings(control=True))) >= MIN_TOKEN
    assert len(map_token(MapSettings(host="0.0.0.0"))) >= MIN_TOKEN
    assert map_token(MapSettings(control=True, token=TOKEN)) == TOKEN


@served()
async def test_there_are_no_buttons_unless_they_are_allowed(server, source, ask):
    status, text, _ = await ask("/control/ping", "POST", "{}", X_CSRF_Token=CSRF, Content_Type="application/json")

    assert status == 403
    assert "--map-control" in text


# Viewers


@served()
async def test_a_viewer_gets_a_snapshot_first_and_then_changes(server, source, ask):
    async with source.session.get("/events") as answer:
        kind, data = await read_event(answer)
        assert (kind, data["reports"]) == ("snapshot", source.reports)

        source.change(Updates({"plato@h": False}, ["old@h"], [EVENT]))
        assert await read_event(answer) == ("gone", {"node": "old@h"})
        assert await read_event(answer) == ("report", {"report": {"node": "plato@h"}})
        assert await read_event(answer) == ("event", {"event": EVENT})

        source.change(Updates({"plato@h": True}))
        assert await read_event(answer) == ("report", {"report": source.reports["plato@h"]})
        kind, _ = await read_event(answer)
        assert kind == "clock"


@served()
async def test_the_place_of_a_viewer_is_free_when_it_has_gone(server, source, ask):
    async with source.session.get("/events") as answer:
        await read_event(answer)
        assert len(source.viewers) == 1
        answer.close()

    async with asyncio.timeout(10):
        while source.viewers:
            source.change(Updates({"plato@h": True}))  # the end is noticed by a write
            await asyncio.sleep(0.01)


@served()
async def test_viewers_beyond_the_limit_are_refused(server, source, ask):
    server._viewers = dict.fromkeys(range(MAX_VIEWERS))

    status, text, _ = await ask("/events")
    assert (status, text) == (503, f"{MAX_VIEWERS} viewers look at this map already.\n")


def test_a_viewer_that_does_not_read_gets_a_snapshot_in_the_end():
    viewer = Viewer(lambda: b"event: snapshot\n", {}.get, Encodings())
    viewer.take()
    for _ in range(MAX_WAITING_EVENTS):
        viewer.add(Updates({}, [], [EVENT]))
    assert viewer._events
    viewer.add(Updates({"plato@h": True}, [], [EVENT]))

    assert not viewer._events
    assert not viewer._reports
    assert viewer.take().startswith(b"event: snapshot\n")


@served()
async def test_connections_without_a_request_make_room_for_others(server, source, ask):
    silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(MAX_CONNECTIONS + 3)]

    assert (await ask("/"))[0] == 200

    async with asyncio.timeout(10):
        for reader, _ in silent[:3]:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
    assert not silent[-1][0].at_eof()
    for _, writer in silent:
        writer.close()


@served()
async def test_a_connection_beyond_the_limit_is_closed_if_all_are_answered(server, source, ask):
    server._tasks.update(dict.fromkeys(range(MAX_CONNECTIONS)))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    server._tasks.clear()


async def raw(server, data):
    """All that the server sends for these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


@served()
async def test_a_second_request_on_a_connection_is_not_read(server, source, ask):
    first = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    for length, rest in ((b"0", b""), (b"5", b"12345"), (b"0", b"GET ")):
        answer = await raw(server, first + b"Content-Length: " + length + b"\r\n\r\n" + rest + first + b"\r\n")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in answer


@served()
async def test_a_large_head_is_refused_and_the_client_gets_the_answer(server, source, ask):
    many = b"".join(b"X-%d: 1\r\n" % number for number in range(MAX_FIELDS + 1))
    for head in (b"X: " + b"a" * MAX_HEAD, b"X: " + b"a" * 200_000, many):
        answer = await raw(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431 ")


HOST = b"Host: h\r\n"
WRONG_HEADS = [
    b"", b"\r\n", b"GET /\r\n", b"GET / HTTP/2.0\r\n" + HOST, b"GET http://h/ HTTP/1.1\r\n" + HOST,
    b"GET / HTTP/1.1\r\n", b"GET  / HTTP/1.1\r\n" + HOST, b"GET /\x00 HTTP/1.1\r\n" + HOST,
    b"GET / HTTP/1.1\r\n folded: 1\r\n" + HOST, b"GET / HTTP/1.1\r\n" + HOST + b"\n\nGET /a HTTP/1.1\r\n" + HOST,
    b"GET / HTTP/1.1\r\n" + HOST + b"A : 1\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"A: \x00\r\n", b"GET /?" + b"&a=1" * 50 + b" HTTP/1.1\r\n" + HOST,
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: \xd9\xa1\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n",
]  # fmt: skip


@pytest.mark.parametrize("head", WRONG_HEADS)
def test_a_head_that_is_not_understood_is_refused(head):
    answer = parse_head(head + b"\r\n")

    assert not isinstance(answer, Request)
    assert answer[0] in (400, 501)


def test_a_head_is_read():
    line = b"GET /a%20b?token=x%2By&token=z&c HTTP/1.1\r\n"
    head = line + b"hOsT: h\r\nCookie: a=1; b=%3B\r\ncookie: a=2\r\nX:1 \r\nX: 2\r\n\r\n"

    request = parse_head(head)

    assert (request.method, request.path, request.query) == ("GET", "/a b", {"token": "x+y", "c": ""})
    assert request.headers == {"host": "h", "cookie": "a=1; b=%3B; a=2", "x": "1, 2"}
    assert request.cookies == {"a": "1", "b": ";"}
    assert request.body_length == 0


@served(token="a token; with = and \u00fc and spaces")
async def test_a_token_may_have_any_characters(server, source, ask):
    token = server._guard._token
    async with source.session.get("/", params={"token": token}, allow_redirects=False) as answer:
        name, _, value = answer.headers["Set-Cookie"].partition(";")[0].partition("=")

    assert (await ask("/", Cookie=f"{name}={value}"))[0] == 200
    assert (await ask("/", Authorization=f"Bearer {token}"))[0] == 200
    assert (await ask("/", Authorization=f"Bearer {token}x"))[0] == 401


@served()
async def test_two_names_of_the_host_are_refused(server, source, ask):
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"

    assert (await raw(server, request)).startswith(b"HTTP/1.1 400 ")


@served()
async def test_other_methods_are_refused(server, source, ask):
    for method in ("HEAD", "POST", "PUT", "OPTIONS"):
        status, _, headers = await ask("/events", method)
        assert (status, headers["Allow"]) == (405, "GET")
    assert source.viewers == []


@served()
async def test_a_recording_that_is_removed_is_an_answer(server, source, ask):
    def fail():
        raise FileNotFoundError(2, "No such file or directory")

    source.recording_parts = fail

    assert (await ask("/recording"))[0] == 404


@pytest.fixture
def short_times(monkeypatch):
    """A viewer that does not read, and a connection without a request, are dropped after a moment."""
    monkeypatch.setattr(server_module, "STALL", 0.2)
    monkeypatch.setattr(server_module, "IDLE_TIMEOUT", 0.2)


@pytest.mark.usefixtures("short_times")
@served()
async def test_a_connection_without_a_request_is_closed(server, source, ask):
    for first in (b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(first)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


@pytest.mark.usefixtures("short_times")
@served(control=True)
async def test_a_body_that_does_not_come_is_not_waited_for(server, source, ask):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"Host: 127.0.0.1\r\nX-CSRF-Token: {CSRF}\r\nContent-Type: application/json\r\nContent-Length: 100"
    writer.write(f"POST /control/ping HTTP/1.1\r\n{head}\r\n\r\n{{".encode())
    async with asyncio.timeout(10):
        assert b" 400 " in await reader.readline()
    writer.close()
    assert source.control.used == []


@pytest.mark.usefixtures("short_times")
@served()
async def test_a_viewer_that_does_not_read_is_dropped_and_delays_no_other(server, source, ask):
    source.reports["plato@h"]["groups"] = ["x" * 1000] * 20_000
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.setblocking(False)
    await asyncio.get_running_loop().sock_connect(stalled, ("127.0.0.1", server.port))
    stalled.send(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    async with asyncio.timeout(20):
        while not source.viewers or source.viewers[0]._needs_snapshot:
            await asyncio.sleep(0.01)
        source.reports["plato@h"] = {**source.reports["plato@h"], "groups": []}
        async with source.session.get("/events") as answer:
            assert (await read_event(answer))[0] == "snapshot"
            while len(source.viewers) > 1:
                await read_event(answer)
    stalled.close()


@served()
async def test_a_viewer_that_reads_slowly_is_not_far_behind(server, source, ask):
    async with source.session.get("/events") as answer:
        await read_event(answer)
        (writer,) = server._tasks.values()

        assert writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * SEND_BUFFER


@served()
async def test_a_server_that_ends_does_not_wait_for_viewers(server, source, ask):
    async with source.session.get("/events") as answer:
        await read_event(answer)
        async with asyncio.timeout(5):
            await server.close()
            with contextlib.suppress(aiohttp.ClientError):
                await answer.content.read()
    assert source.viewers == []


# Addresses


def test_a_header_names_a_host():
    assert [host_of_header(text) for text in ("h:80", "[::1]:80", "http://h:1", "https://[::1]", "h")] == [
        "h", "::1", "h", "::1", "h",
    ]  # fmt: skip


def test_only_addresses_and_localhost_are_loopback():
    assert all(is_loopback_name(name) for name in ("127.0.0.1", "127.5.5.5", "::1", "localhost", "LOCALHOST"))
    assert not any(is_loopback_name(name) for name in ("0.0.0.0", "10.0.0.1", "localhost.evil.example", "", "h"))


logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
