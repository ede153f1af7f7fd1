"""Every option of a node, from the command line and from the environment."""

import argparse
import asyncio
from pathlib import Path

import pytest

from erlmesh import TlsConfig
from erlmesh.cli import node_options
from erlmesh.cli.node_options import OptionValues, add_options_of, client_options, unknown_variables
from erlmesh.cli.settings import VARIABLES, add_node_options
from erlmesh.errors import ConnectError, NodeStartError
from erlmesh.net.epmd import Epmd
from erlmesh.net.resolvers import FixedPort, NoEpmd
from erlmesh.runtime.config import NodeConfig


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_options_of(parser, NodeConfig)
    return parser.parse_args(words)


def given(*words, **environment):
    return node_options.node_options(OptionValues(parsed(*words), environment))


def client(*words, **environment):
    return client_options(OptionValues(parsed(*words), environment))


def default_host(options, environment):
    return node_options.default_host(OptionValues(options, environment))


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ([], {}, {}),
        ([], {"ERLMESH_HIDDEN": "", "ERLMESH_ALLOW": " "}, {}),
        (["--hidden"], {"ERLMESH_HIDDEN": "true"}, {"hidden": True}),
        (["--no-hidden"], {"ERLMESH_HIDDEN": "No"}, {"hidden": False}),
        (["--allow", "a@b", "--allow", "c@"], {"ERLMESH_ALLOW": "a@b, c@"}, {"allow": ["a@b", "c@"]}),
        (["--listen", "*"], {"ERLMESH_LISTEN": "*"}, {"listen": ["*"]}),
        (["--port", "9100"], {"ERLMESH_PORT_MIN": "9100"}, {"ports": range(9100, 9101)}),
        (
            ["--port", "9100-9105"],
            {"ERLMESH_PORT_MIN": "9100", "ERLMESH_PORT_MAX": "9105"},
            {"ports": range(9100, 9106)},
        ),
        (["--advertise-port", "80"], {"ERLMESH_ADVERTISE_PORT": "80"}, {"advertise_port": 80}),
        (["--no-reconnect"], {"ERLMESH_RECONNECT": "off"}, {"reconnect": False}),
        (["--net-ticktime", "8.5"], {"ERLMESH_NET_TICKTIME": "8.5"}, {"net_ticktime": 8.5}),
        (
            [
                "--tls-cert",
                "~/c",
                "--tls-key",
                "k",
                "--tls-ca",
                "a",
                "--tls-verify-caller-host",
                "--no-tls-verify-host",
            ],
            {
                "ERLMESH_TLS_CERT": "~/c",
                "ERLMESH_TLS_KEY": "k",
                "ERLMESH_TLS_CA": "a",
                "ERLMESH_TLS_VERIFY_CALLER_HOST": "yes",
                "ERLMESH_TLS_VERIFY_HOST": "no",
            },
            {"tls": TlsConfig(cert=f"{Path.home()}/c", key="k", ca="a", verify_host=False, verify_caller_host=True)},
        ),
        (["--send-queue-limit", "2000000"], {"ERLMESH_SEND_QUEUE_LIMIT": "2000000"}, {"send_queue_limit": 2_000_000}),
        (["--frame-limit", "2000000"], {"ERLMESH_FRAME_LIMIT": "2000000"}, {"frame_limit": 2_000_000}),
        (["--element-limit", "5000"], {"ERLMESH_ELEMENT_LIMIT": "5000"}, {"element_limit": 5000}),
        (
            ["--no-prevent-overlapping-partitions"],
            {"ERLMESH_PREVENT_OVERLAPPING_PARTITIONS": "off"},
            {"prevent_overlapping_partitions": False},
        ),
    ],
)
def test_an_option_and_its_variable_give_the_same_value(words, environment, expected):
    assert given(*words) == (expected if words else {})
    assert given(**environment) == expected
    assert given(*words, **dict.fromkeys(environment, "nonsense") if words else {}) == (expected if words else {})


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        ([], {"ERLMESH_HIDDEN": "perhaps"}, "ERLMESH_HIDDEN is 'perhaps': it must be true or false"),
        (["--port", "x"], {}, "--port is 'x': a port is a number"),
        (["--port", "0"], {}, "--port is '0'"),
        (["--port", "9105-9100"], {}, "the range is empty"),
        (["--port", "9100-"], {}, None),
        ([], {"ERLMESH_PORT_MIN": "tcp://10.0.0.1:80"}, "ERLMESH_PORT_MIN is"),
        ([], {"ERLMESH_PORT_MIN": "1", "ERLMESH_PORT_MAX": "many"}, "ERLMESH_PORT_MIN and _MAX is 'many'"),
        ([], {"ERLMESH_PORT_MAX": "9100"}, "ERLMESH_PORT_MAX is set without ERLMESH_PORT_MIN"),
        (["--advertise-port", "70000"], {}, "--advertise-port is '70000'"),
        ([], {"ERLMESH_NET_TICKTIME": "never"}, "ERLMESH_NET_TICKTIME is 'never': it must be a positive number"),
        (["--net-ticktime", "inf"], {}, "positive"),
        (["--net-ticktime", "-1"], {}, "positive"),
        (["--erl-epmd-port", "4370", "--port", "9100"], {}, "also the port to listen on"),
        (["--erl-epmd-port", "4370", "--epmd"], {}, "there is no EPMD"),
        (["--resolve", "plato@h=10.0.0.1"], {}, "--resolve is 'plato@h=10.0.0.1': it looks like"),
        ([], {"ERLMESH_RESOLVE": "h=10.0.0.1:1"}, "ERLMESH_RESOLVE is"),
        (
            ["--tls-cert", "c"],
            {"ERLMESH_TLS_CA": "a"},
            "--tls-cert is given: TLS also needs --tls-key or ERLMESH_TLS_KEY",
        ),
        (["--tls-verify-host"], {}, "TLS also needs --tls-cert or ERLMESH_TLS_CERT and --tls-key"),
        (
            ["--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a"],
            {"ERLMESH_TLS_MINIMUM_VERSION": "1.1"},
            "ERLMESH_TLS_MINIMUM_VERSION is '1.1': it must be 1.2 or 1.3",
        ),
        ([], {"ERLMESH_COOKIES_FILE": "/nonexistent"}, "there is no cookie file /nonexistent"),
    ],
)
def test_an_invalid_value_is_refused_with_its_option_or_variable(words, environment, said):
    if said is None:
        assert given(*words, **environment) == {"ports": range(9100, 9101)}
        return
    with pytest.raises(NodeStartError) as refusal:
        given(*words, **environment)
    assert said in str(refusal.value)


def test_other_nodes_are_found_by_a_fixed_port_no_epmd_or_a_table():
    assert isinstance(given("--erl-epmd-port", "4370")["epmd"], FixedPort)
    assert isinstance(given(ERLMESH_EPMD="false")["epmd"], NoEpmd)
    resolver = given("--no-epmd", "--resolve", "a@h=10.0.0.1:9100", "--resolve", "b@::1=[::1]:9101")["resolver"]

    assert asyncio.run(resolver.resolve("a@h")) == ("10.0.0.1", 9100)
    assert asyncio.run(resolver.resolve("b@::1")) == ("::1", 9101)
    with pytest.raises(ConnectError, match="the address of c@h is unknown"):
        asyncio.run(resolver.resolve("c@h"))


def test_a_client_node_registers_nowhere():
    assert isinstance(client()["epmd"], NoEpmd)
    assert isinstance(client()["resolver"], Epmd)
    assert isinstance(client(ERLMESH_ERL_EPMD_PORT="4370")["resolver"], FixedPort)


def test_cookies_of_single_peers_come_from_a_protected_file(tmp_path):
    file = tmp_path / "cookies"
    file.touch(mode=0o600)
    file.write_text("# those that differ\nplato@h secret\n\nother@h  two # and why\n")

    assert given("--cookies-file", str(file))["cookies"] == {"plato@h": "secret", "other@h": "two"}

    file.write_text("plato@h secret\nsecret\n")
    with pytest.raises(NodeStartError, match="line 2"):
        given("--cookies-file", str(file))
    file.chmod(0o644)
    with pytest.raises(NodeStartError, match="other users can read"):
        given("--cookies-file", str(file))


def test_the_default_host_is_the_loopback_address():
    assert default_host(parsed(), {}) == "127.0.0.1"
    assert default_host(parsed(), {"ERLMESH_HOST": "10.0.0.1"}) == "10.0.0.1"
    assert default_host(parsed("--host", "node.example.org"), {"ERLMESH_HOST": "10.0.0.1"}) == "node.example.org"
    with pytest.raises(NodeStartError, match="ERLMESH_HOST is 'a b'"):
        default_host(parsed(), {"ERLMESH_HOST": "a b"})


def test_a_misspelt_variable_is_reported_and_one_of_kubernetes_is_not():
    environment = dict.fromkeys([*VARIABLES, "ERLMESH_PORT", "ERLMESH_SERVICE_HOST", "ERLMESH_PORT_4369_TCP_ADDR"], "x")

    assert unknown_variables(environment, VARIABLES) == []
    assert unknown_variables({"ERLMESH_HIDEN": "1", "OTHER": "1"}, VARIABLES) == [
        "ERLMESH_HIDEN has no meaning here: is ERLMESH_HIDDEN meant?"
    ]


def test_the_help_names_every_variable():
    everything = argparse.ArgumentParser()
    add_node_options(everything)
    told = everything.format_help()

    # No options of a node: where erlmesh keeps its files, which build runs, and `--workers` of `start` alone.
    assert {name for name in VARIABLES if name not in told} == {"ERLMESH_PURE", "ERLMESH_STATE", "ERLMESH_WORKERS"}
