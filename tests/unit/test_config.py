"""The configuration of a node: one field for each option, and everything else comes from it."""

import argparse
import importlib.util
import inspect
import pydoc
import re
from pathlib import Path

import pytest

from erlmesh import Atom, FixedPort, Node, NodeConfig
from erlmesh.cli.node_options import _READERS, OptionValues, add_options_of, node_options, variables_of
from erlmesh.cli.settings import NodeSettings
from erlmesh.core.cookies import Cookies
from erlmesh.records import field, fields, record
from erlmesh.runtime.config import CommandOption, accept_fields_of, options, options_of, parser_of
from erlmesh.runtime.option_parsers import parse_seconds

ROOT = Path(__file__).parent.parent.parent
NAMES = [each.name for each in fields(NodeConfig)]


@pytest.fixture(scope="module")
def tables():
    path = ROOT / "tools" / "docs_tables.py"
    spec = importlib.util.spec_from_file_location("docs_tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_limits_in_the_threat_model_are_current(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    module = importlib.import_module("docs_limits")

    assert module.TARGET.read_text() == module.page(), "run `make docs-tables`"
    assert {"send_queue_limit", "handshake_limit", "guess_delay", "dial_limit"} <= set(module.limit_fields())
    assert {name for name in NAMES if re.search("limit|per_address|delay", name)} <= set(module.limit_fields())


def test_the_table_of_metrics_is_current(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    module = importlib.import_module("docs_metrics")

    assert module.TARGET.read_text() == module.page(), "run `make docs-tables`"


@record(frozen=True, kw_only=True)
class Extended(NodeConfig):
    """A configuration with one field more."""

    grace: float = field(
        default=0.5,
        metadata=options(CommandOption("--grace", "seconds to wait at the end", "SECONDS"), parse=parse_seconds),
    )
    """Seconds that processes get at the end."""


def test_a_new_field_is_a_keyword_an_option_a_variable_and_a_row_of_the_table(tables):
    class ExtendedNode:
        @accept_fields_of(Extended)
        def __init__(self, config):
            self.config = config

    parser = argparse.ArgumentParser()
    add_options_of(parser, Extended)

    assert ExtendedNode("a@127.0.0.1", cookie="c", grace=2.0).config.grace == 2.0
    assert inspect.signature(ExtendedNode).parameters["grace"].default == 0.5
    assert node_options(OptionValues(parser.parse_args(["--grace", "3"]), {}), Extended) == {"grace": 3.0}
    assert node_options(OptionValues(parser.parse_args([]), {"ERLMESH_GRACE": "4"}), Extended) == {"grace": 4.0}
    assert "seconds to wait at the end [ERLMESH_GRACE]" in " ".join(parser.format_help().split())
    assert "ERLMESH_GRACE" in variables_of(Extended)
    assert "| `grace=` | `--grace SECONDS` | `ERLMESH_GRACE` | Seconds that processes" in "\n".join(
        tables.rows(Extended)
    )


def test_help_and_the_signature_of_a_node_show_every_field():
    parameters = inspect.signature(Node).parameters

    assert list(parameters) == NAMES
    assert parameters["net_ticktime"].default == 60.0
    assert all(f"{name}: " in pydoc.plain(pydoc.render_doc(Node)) for name in NAMES)


def test_every_option_has_a_parser_or_a_reader():
    for name, found in options_of(NodeConfig).items():
        if found and name not in ("name", "cookie"):
            assert (name in _READERS) != (parser_of(NodeConfig, name) is not None), name


@pytest.mark.parametrize("config", [NodeConfig, NodeSettings])
def test_every_field_has_a_docstring(tables, config):
    assert set(tables.docstrings(config)) == {each.name for each in fields(config)}


def test_the_documented_table_is_the_one_that_the_fields_give(tables):
    assert tables.TARGET.read_text() == tables.configuration(), "make docs-tables writes it again"


def test_a_node_name_may_be_an_atom():
    config = NodeConfig("a@h", cookies={Atom("b@h"): "c"}, join=[Atom("b@h"), "c@h"], allow=[Atom("b@h")])

    assert config.join == ("b@h", "c@h")
    assert Cookies(config.cookie, config.cookies).cookie_for("b@h") == "c"


def test_a_node_can_be_made_from_a_configuration():
    config = NodeConfig("a@127.0.0.1", cookie="c", hidden=True, listen="127.0.0.1", join=iter(["b@127.0.0.1"]))
    node = Node.from_config(config)

    assert (node.name, node.internals.hidden) == ("a@127.0.0.1", True)
    assert (config.listen, config.join) == (("127.0.0.1",), ("b@127.0.0.1",))
    assert config == NodeConfig("a@127.0.0.1", cookie="c", hidden=True, listen=["127.0.0.1"], join=["b@127.0.0.1"])


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("socrates", {}, "'socrates' is not a node name: it looks like socrates@127.0.0.1"),
        ("a@h", {"cookie": None}, "a node needs a cookie"),
        ("a@h", {"cookie": ""}, "a cookie is one or more ASCII characters"),
        ("a@h", {"net_ticktime": 0}, "net_ticktime is a positive number of seconds, not 0"),
        ("a@h", {"send_queue_limit": 1000}, "send_queue_limit is a number of bytes, at least 1 MiB, not 1000"),
        ("a@h", {"frame_limit": 1000}, "frame_limit is a number of bytes, at least 1 MiB, not 1000"),
        ("a@h", {"element_limit": 0}, "element_limit is a whole number, 1 or more, not 0"),
        ("a@h", {"join": "b@h"}, "`join` is a list of node names, not one name"),
        ("a@h", {"allow": ["@"]}, "allows no node"),
        ("a@h", {"ports": []}, "`ports` is empty"),
        ("a@h", {"ports": [70000]}, "each of `ports` must be a number from 1 to 65535, not 70000"),
        ("a@h", {"advertise_port": 0}, "advertise_port must be a number from 1 to 65535, not 0"),
        ("a@h", {"epmd": FixedPort(4370), "ports": [1]}, "omit `ports`"),
    ],
)
def test_a_value_that_is_not_valid_is_refused_in_words(name, wrong, words):
    with pytest.raises(ValueError, match=words):
        NodeConfig(name, **{"cookie": "c", **wrong})
    with pytest.raises(ValueError, match=words):
        Node(name, **{"cookie": "c", **wrong})


def test_the_representation_shows_no_cookie():
    config = NodeConfig("a@127.0.0.1", cookie="SECRET", cookies={"b@127.0.0.1": "SECRET"})

    assert "SECRET" not in repr(config)
