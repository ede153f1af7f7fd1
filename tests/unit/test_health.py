"""The health server and its client."""

import asyncio
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from erlmesh.net.health import HealthServer
from erlmesh.net.health_socket import read_health, socket_folders


def test_a_responsive_loop_gives_its_report(tmp_path):
    async def main():
        server = HealthServer("plato@h", lambda: {"nodes": 2}, [tmp_path])
        report = await asyncio.to_thread(read_health, server.path, 5)
        mode = stat.S_IMODE(server.path.stat().st_mode)
        server.close()
        return report, mode, server.path

    report, mode, path = asyncio.run(main())

    assert (report["alive"], report["nodes"], mode) == (True, 2, 0o600)
    assert not path.exists()


def test_a_blocked_loop_is_reported_with_its_duration(tmp_path):
    answers = []

    async def main():
        server = HealthServer("plato@h", dict, [tmp_path])

        def block(times):
            client = threading.Thread(target=lambda: answers.extend(read_health(server.path, 5) for _ in range(times)))
            client.start()
            client.join()  # the loop is blocked

        block(2)
        answers.append(await asyncio.to_thread(read_health, server.path, 5))
        block(1)
        server.close()

    asyncio.run(main())

    assert [answer["alive"] for answer in answers] == [False, False, True, False]
    assert answers[1]["loop_ms"] > answers[0]["loop_ms"] >= 1000
    assert answers[3]["loop_ms"] < answers[1]["loop_ms"]


def test_an_older_socket_is_replaced_and_a_newer_one_is_kept(tmp_path):
    async def main():
        older = HealthServer("plato@h", dict, [tmp_path])
        newer = HealthServer("plato@h", lambda: {"newer": True}, [tmp_path])
        older.close()
        report = await asyncio.to_thread(read_health, newer.path, 5)
        newer.close()
        return report

    assert asyncio.run(main())["newer"] is True


def test_a_folder_with_a_long_name_works(tmp_path):
    folder = tmp_path / ("x" * 120)

    async def main():
        server = HealthServer("plato@h", dict, [Path("/proc/no/such"), folder])
        report = await asyncio.to_thread(read_health, server.path, 5)
        server.close()
        return report

    assert asyncio.run(main())["alive"] is True
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_killed_node_refuses_and_a_stopped_node_times_out(tmp_path):
    with socket.socket(socket.AF_UNIX) as unused:
        unused.bind(str(tmp_path / "d.health"))
    with pytest.raises(ConnectionRefusedError):
        read_health(tmp_path / "d.health", 1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s.health"))
        silent.listen()
        with pytest.raises(TimeoutError):
            read_health(tmp_path / "s.health", 0.05)


def test_no_folder_is_an_error():
    async def main():
        with pytest.raises(OSError, match="ERLMESH_STATE"):
            HealthServer("plato@h", dict, [])

    asyncio.run(main())


def test_socket_folders_of_the_environment():
    assert socket_folders({"ERLMESH_STATE": "/s", "HOME": "/h"}) == ["/s"]
    assert socket_folders({"HOME": "/h", "XDG_STATE_HOME": "/x", "XDG_RUNTIME_DIR": "/run/user/1"}) == [
        "/run/user/1/erlmesh",
        "/x/erlmesh",
        "/h/.local/state/erlmesh",
    ]
    assert socket_folders({"XDG_STATE_HOME": "relative"}) == []
    assert os.environ.get("ERLMESH_STATE") is None
