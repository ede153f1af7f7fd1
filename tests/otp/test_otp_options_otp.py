"""OTP's environment variables and files that erlmesh honours, beside a real OTP, and the page of all options."""

import re
import socket
import subprocess
from pathlib import Path

import pytest

from beam import programs
from cluster import is_listening
from erlmesh.cli.commands import COMMANDS, build_parser
from erlmesh.net.cookie_files import find_cookie
from polling import wait_until

# ERL_EPMD_PORT


def test_both_find_each_other_by_the_epmd_of_the_port_in_the_environment(cluster, otp):
    beam, python = cluster.beam("beam", otp=otp), cluster.pynode("python")

    assert cluster.epmd_port != 4369
    assert beam.ping(python.name)
    wait_until(lambda: python.nodes() == {beam.name})


# ERL_EPMD_ADDRESS


def test_an_epmd_in_a_node_listens_where_the_environment_says_and_serves_a_beam(cluster_without_epmd, otp):
    cluster = cluster_without_epmd
    python = cluster.pynode("python", environment={"ERL_EPMD_ADDRESS": "127.0.0.9"})
    beam = cluster.beam("beam", otp=otp)

    assert beam.ping(python.name)
    assert is_listening(cluster.epmd_port)
    for host, is_open in (("127.0.0.9", True), ("127.0.0.8", False)):
        with socket.socket() as probe:
            assert (probe.connect_ex((host, cluster.epmd_port)) == 0) is is_open


# HOME and .erlang.cookie


def cookie_of_otp(otp, environment):
    """The cookie that a node of OTP finds."""
    folder = programs(otp)
    command = [
        *(str(folder / "erl"), "-noshell", "-name", "asked@127.0.0.1", "-start_epmd", "false"),
        *("-kernel", "dist_listen", "false", "-dist_listen", "false", "-erl_epmd_port", "1"),
        *("-eval", 'io:format("<~s>", [erlang:get_cookie()]), halt().'),
    ]
    done = subprocess.run(
        command, env={"PATH": f"{folder}:/usr/bin:/bin", **environment}, capture_output=True, text=True, check=True
    )
    return re.search(r"<(.*)>", done.stdout)[1]


@pytest.mark.parametrize("text", ["abc", "abc\n", " a b "])
def test_the_cookie_file_in_the_home_folder_is_read_as_otp_reads_it(tmp_path, otp, text):
    file = tmp_path / ".erlang.cookie"
    file.write_text(text)
    file.chmod(0o400)
    environment = {"HOME": str(tmp_path)}

    assert find_cookie(None, None, environment) == cookie_of_otp(otp, environment)


@pytest.mark.otps(25, 27, 29)
def test_the_cookie_file_in_the_configuration_folder_comes_next_as_in_otp(tmp_path, otp):
    home, config = tmp_path / "home", tmp_path / "config"
    (config / "erlang").mkdir(parents=True)
    home.mkdir()
    file = config / "erlang" / ".erlang.cookie"
    file.write_text("configured")
    file.chmod(0o400)
    environment = {"HOME": str(home), "XDG_CONFIG_HOME": str(config)}

    assert find_cookie(None, None, environment) == cookie_of_otp(otp, environment) == "configured"


# The page

HONOURED = {
    "ERL_EPMD_PORT": test_both_find_each_other_by_the_epmd_of_the_port_in_the_environment,
    "ERL_EPMD_ADDRESS": test_an_epmd_in_a_node_listens_where_the_environment_says_and_serves_a_beam,
    "HOME": test_the_cookie_file_in_the_home_folder_is_read_as_otp_reads_it,
    ".erlang.cookie": test_the_cookie_file_in_the_configuration_folder_comes_next_as_in_otp,
}
KERNEL = [
    "connect_all", "dist_auto_connect", "dist_listen", "dist_nodelay", "erl_epmd_node_listen_port", "erl_epmd_port",
    "global_groups", "inet_dist_connect_options", "inet_dist_listen_max", "inet_dist_listen_min",
    "inet_dist_listen_options", "inet_dist_use_interface", "net_setuptime", "net_ticker_spawn_options",
    "net_tickintensity", "net_ticktime", "prevent_overlapping_partitions", "start_pg", "sync_nodes_mandatory",
    "sync_nodes_optional", "sync_nodes_timeout",
]  # fmt: skip
"""What the documentation of ``kernel`` and ``erl`` says about the distribution."""


@pytest.fixture(scope="module")
def rows():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "otp-options.md").read_text()
    table = re.findall(r"^\| (`.*?) \| (.*?) \| (.*) \|$", text, re.MULTILINE)
    return {name: (kind, here) for names, kind, here in table for name in re.findall(r"`([^`]+)`", names)}


def test_every_honoured_option_has_a_test(rows):
    assert {name for name, (kind, _) in rows.items() if kind == "honoured"} == set(HONOURED)


def test_the_page_has_every_option_of_otp(rows):
    words = " ".join(rows)
    erts = (programs() / "erl").resolve().parents[1].glob("erts-*/bin")
    binaries = [(folder / name).read_bytes() for folder in erts for name in ("epmd", "erlexec")]
    variables = {name.decode() for each in binaries for name in re.findall(rb"ERL_EPMD_[A-Z_]+|ERL_[AZ]?FLAGS", each)}

    assert [name for name in KERNEL if name not in words] == []
    assert "ERL_EPMD_PORT" in variables
    assert variables <= set(rows)


def test_every_option_of_erlmesh_on_the_page_exists(rows):
    known = set()
    for command in COMMANDS:
        parsers = build_parser(command)._subparsers._group_actions[0].choices
        known |= {option for action in parsers[command]._actions for option in action.option_strings}

    named = {option for _, here in rows.values() for option in re.findall(r"`(--[a-z-]+)", here)}
    assert named
    assert named <= known
