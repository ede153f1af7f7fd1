"""The page about Python under Elixir: its files become a release, and its calls are made there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from answers import same
from blocks import all_blocks

from beam import NoSuchOtp
from cluster import Cluster, free_port
from elixir_tools import COMPANION, elixir_environment, mix, run_elixir
from os_process import OsProcess
from polling import wait_until
from skips import skip_or_fail

pytestmark = [pytest.mark.otp, pytest.mark.timeout(600)]
BLOCKS = [block for block in all_blocks() if block.check == "companion"]
(ERROR,) = (block for block in all_blocks() if block.check == "companion-error")
COOKIE = "cookie-of-the-release"
OTPS = (25, 29)


def calls() -> str:
    """A program that prints the value of each expression of the blocks ``# calls`` and ``# iex``."""
    parts = [part for part, _ in expressions()]
    return "\n".join(f"IO.puts(inspect((\n{part}\n)))" for part in parts)


def expressions() -> list[tuple[str, str | None]]:
    """The expressions, each with the value that the page shows."""
    found = []
    for block in BLOCKS:
        name, _, text = block.text.partition("\n")
        if name in ("# calls", "# iex"):
            for part in text.strip().split("\n\n"):
                source, _, value = part.partition("\n# ")
                found.append((source, value or None))
    return found


class Release:
    """The release of the page. ``rpc(program)`` runs Elixir on it and returns what that prints."""

    def __init__(self, folder: Path, otp: int) -> None:
        self.cluster = Cluster(folder, epmd_port=free_port())
        self.folder = folder / "shop"
        self.environment = {
            **elixir_environment(otp, self.cluster.epmd_port, folder),
            "MIX_ENV": "prod",
            "RELEASE_DISTRIBUTION": "name",
            "RELEASE_NODE": "shop@127.0.0.1",
            "RELEASE_COOKIE": COOKIE,
            "MODEL_PYTHON": sys.executable,
            "MODEL_FOLDER": str(self.folder / "model"),
        }
        del self.environment["MIX_BUILD_PATH"]
        self.program = str(self.folder / "_build/prod/rel/shop/bin/shop")
        (folder / "erlmesh").mkdir()
        (folder / "erlmesh/elixir").symlink_to(COMPANION)
        (self.folder / "priv").mkdir(parents=True)
        for block in BLOCKS:
            name, _, text = block.text.partition("\n")
            if re.fullmatch(r"# \S+\.exs?|# \S+\.py", name):
                path = self.folder / name.removeprefix("# ")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        assert "warning" not in run_elixir(mix(otp, "release"), self.environment, self.folder)

    def start(self) -> OsProcess:
        self.cluster.start_epmd_once()
        release = OsProcess("shop", [self.program, "start"], {**self.environment, "RELEASE_TMP": str(self.folder)})
        self.cluster.processes.append(release)
        return release

    def run(self, *arguments: str) -> str:
        return run_elixir([self.program, *arguments], self.environment, self.folder)

    def rpc(self, program: str) -> str:
        return self.run("rpc", program)


@pytest.fixture(params=OTPS, ids="otp{}".format)
def release(request, tmp_path):
    try:
        release = Release(tmp_path, request.param)
    except NoSuchOtp as error:
        skip_or_fail(str(error))
    yield release
    release.cluster.close()


FAILING_START = """
    Process.flag(:trap_exit, true)
    options = Application.fetch_env!(:shop, :python) ++ [node: "other", expose: ["models"]]
    {:error, {error, _}} = Erlmesh.Python.start_link(options)
    IO.puts("** (#{inspect(error.__struct__)}) #{Exception.message(error)}")
"""


def test_the_release_of_the_page_runs_its_calls_and_leaves_nothing(release):
    beam = release.start()
    wait_until(lambda: beam.logged("the model is loaded") or not beam.is_running(), timeout=60, details=beam.recent_log)
    wait_until(lambda: "true" in release.rpc("IO.puts(is_pid(Process.whereis(Shop.Counter)))"), timeout=60)

    lines = release.rpc(calls().replace("priv/", f"{release.folder}/priv/")).splitlines()

    assert len(lines) == len(expressions())
    for (source, value), line in zip(expressions(), lines, strict=True):
        assert value is None or line == value, source
    assert release.rpc('IO.puts(Shop.Model.length("four"))').strip() == "4"
    assert b"Count the characters" in (release.folder / "priv/model.functions").read_bytes()
    node = int(release.rpc("IO.puts(Erlmesh.Python.os_pid(Shop.Python))"))
    for file in ("environ", "cmdline"):
        assert COOKIE not in Path(f"/proc/{node}/{file}").read_text()

    printed = release.rpc(FAILING_START)
    shown = ERROR.text.replace("shop-shop_python@10.0.0.7", "other@127.0.0.1")
    assert same(shown, printed[printed.index("** (") :]), printed  # the log comes before it

    release.run("stop")

    beam.wait(30)
    assert subprocess.run(["kill", "-0", str(node)], capture_output=True, check=False).returncode != 0
