"""What a node tells of itself over its socket."""

import asyncio
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from erlmesh.net.health import HealthServer
from erlmesh.net.health_socket import read_health, socket_folders


def test_a_node_whose_loop_turns_tells_its_report(tmp_path):
    async def main():
        server = HealthServer("plato@h", lambda: {"nodes": 2}, [tmp_path])
        told = await asyncio.to_thread(read_health, server.path, 5)
        mode = stat.S_IMODE(server.path.stat().st_mode)
        server.close()
        return told, mode, server.path

    told, mode, path = asyncio.run(main())

    assert (told["alive"], told["nodes"], mode) == (True, 2, 0o600)
    assert not path.exists()


def test_a_loop_that_hangs_is_told_with_for_how_long(tmp_path):
    answers = []

    async def main():
        server = HealthServer("plato@h", dict, [tmp_path])

        def hang(times):
            asking = threading.Thread(target=lambda: answers.extend(read_health(server.path, 5) for _ in range(times)))
            asking.start()
            asking.join()  # the loop does not turn

        hang(2)
        answers.append(await asyncio.to_thread(read_health, server.path, 5))
        hang(1)
        server.close()

    asyncio.run(main())

    assert [answer["alive"] for answer in answers] == [False, False, True, False]
    assert answers[1]["loop_ms"] > answers[0]["loop_ms"] >= 1000
    assert answers[3]["loop_ms"] < answers[1]["loop_ms"]


def test_a_socket_of_a_former_life_is_replaced_and_that_of_a_later_one_left(tmp_path):
    async def main():
        former = HealthServer("plato@h", dict, [tmp_path])
        later = HealthServer("plato@h", lambda: {"later": True}, [tmp_path])
        former.close()
        told = await asyncio.to_thread(read_health, later.path, 5)
        later.close()
        return told

    assert asyncio.run(main())["later"] is True


def test_a_folder_with_a_long_name_is_none_the_worse(tmp_path):
    folder = tmp_path / ("x" * 120)

    async def main():
        server = HealthServer("plato@h", dict, [Path("/proc/no/such"), folder])
        told = await asyncio.to_thread(read_health, server.path, 5)
        server.close()
        return told

    assert asyncio.run(main())["alive"] is True
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_who_was_killed_refuses_and_who_is_stopped_is_silent(tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "d.health"))
    with pytest.raises(ConnectionRefusedError):
        read_health(tmp_path / "d.health", 1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s.health"))
        silent.listen()
        with pytest.raises(TimeoutError):
            read_health(tmp_path / "s.health", 0.05)


def test_no_folder_at_all_is_an_error():
    async def main():
        with pytest.raises(OSError, match="ERLMESH_STATE"):
            HealthServer("plato@h", dict, [])

    asyncio.run(main())


def test_the_folder_is_the_users_own():
    assert socket_folders({"ERLMESH_STATE": "/s", "HOME": "/h"}) == [Path("/s")]
    assert socket_folders({"HOME": "/h", "XDG_STATE_HOME": "/x", "XDG_RUNTIME_DIR": "/run/user/1"}) == [
        Path("/run/user/1/erlmesh"),
        Path("/x/erlmesh"),
        Path("/h/.local/state/erlmesh"),
    ]
    assert socket_folders({"XDG_STATE_HOME": "relative"}) == []
    assert os.environ.get("ERLMESH_STATE") is None
