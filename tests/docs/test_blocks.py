"""Every code block of the documents is run or checked. A block that no test handles is a failure."""

import asyncio
import doctest
import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from blocks import ROOT, Kill, all_blocks, documents, elements
from commands import check_command, command_lines
from sessions import Session

from skips import skip_or_fail

BLOCKS = all_blocks()
TYPED = ("console", "python", "elixir")


def is_pytest(block):
    return block.language == "python" and re.search(r"^(async )?def test_", block.text, re.MULTILINE) is not None


def sessions():
    """The blocks and kills of each session that has something to type."""
    found = {}
    for page in documents():
        for each in elements(page):
            if isinstance(each, Kill) or (each.language in TYPED and each.check is None and not is_pytest(each)):
                found.setdefault(each.session, []).append(each)
    return found


SESSIONS = sessions()


def blocks_of(language, check=None):
    return [block for block in BLOCKS if block.language == language and block.check == check]


def checked_by(name):
    """Marks a test of the blocks with ``<!-- check: NAME -->``."""
    found = [block for block in BLOCKS if block.check == name]
    return pytest.mark.parametrize("block", found, ids=str)


def test_a_test_handles_every_block():
    handled = {"sh", "yaml", "json", "pycon", *TYPED}
    checks = {"commit-message", "otp-test", "command-examples", "blocked-loop-log", "pytest"}
    checks |= {"companion", "companion-error"}  # test_companion.py
    checks |= {"from-howto", "seq-trace", "incident", "incident-log"}  # below
    checks |= {"phoenix-live-view", "phoenix-worker", "phoenix-guest"}  # test_phoenix.py
    checks |= {"same-worker-python", "same-worker-elixir", "singleton", "consumer-group"}  # test_sharding.py
    checks |= {"delivery-python", "delivery-elixir"}  # test_delivery.py
    checks |= {f"synchronous-{name}" for name in ("script", "django", "flask", "celery")}  # test_synchronous.py

    unhandled = [
        f"{block}: {block.language or 'no language'}, check {block.check}"
        for block in BLOCKS
        if (block.check not in checks if block.check else block.language not in handled)
    ]

    assert unhandled == []


# Sessions


def plato_is_in_the_group(session):
    plato = session.shell("plato")
    plato.type(":pg2.create(:group)")
    plato.type(":pg2.join(:group, self())")


def three_python_nodes(session):
    for name in ("socrates", "plato", "aristotle"):
        session.shell(name)
    session.shells["plato@127.0.0.1"].type('Node.ping(:"socrates@127.0.0.1")')
    session.shells["plato@127.0.0.1"].type('Node.ping(:"aristotle@127.0.0.1")')


SETUPS = {"readme-shells": plato_is_in_the_group, "compose": three_python_nodes}


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_prints_what_the_document_shows(name, tmp_path, monkeypatch):
    from beam import NoSuchOtp

    monkeypatch.chdir(tmp_path)
    session = Session(tmp_path)
    try:
        SETUPS.get(name, lambda session: None)(session)
        for element in SESSIONS[name]:
            session.run(element)
    except NoSuchOtp as error:
        skip_or_fail(str(error))
    finally:
        session.close()


HOWTO_TEXTS = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs/howto").glob("*.md")}


@checked_by("from-howto")
def test_a_program_of_the_readme_stands_in_a_guide_which_a_test_runs(block):
    assert any(f"\n```{block.language}\n{block.text}```\n" in text for text in HOWTO_TEXTS.values())


# Commands and data


@pytest.mark.parametrize("block", blocks_of("sh"), ids=str)
def test_each_command_exists_with_its_options(block):
    lines = command_lines(block.text)

    assert lines
    for line in lines:
        check_command(line)


@checked_by("command-examples")
def test_each_example_of_a_command_exists_with_its_options(block):
    for line in command_lines(block.text):
        if line.startswith(("erlmesh ", "echo ", "docker ")):
            check_command(re.split(r"\s{3,}| && ", line)[0])


def test_yaml_and_json_can_be_read():
    assert all(yaml.safe_load(block.text) for block in blocks_of("yaml"))
    assert all(json.loads(block.text) for block in blocks_of("json"))


@pytest.mark.parametrize("block", blocks_of("python"), ids=str)
def test_python_can_be_compiled(block):
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("page", sorted({block.page for block in blocks_of("pycon")}))
def test_an_interactive_example_gives_what_the_document_shows(page):
    names = {"__name__": "__main__"}  # the blocks of a page are one session; a dataclass looks for its module
    for block in blocks_of("pycon"):
        if block.page == page:
            example = doctest.DocTestParser().get_doctest(block.text, names, str(block), block.page, block.line)
            example.globs, printed = names, []  # it has made a copy

            result = doctest.DocTestRunner().run(example, out=printed.append, clear_globs=False)

            assert result.attempted
            assert result.failed == 0, "".join(printed)


@checked_by("commit-message")
def test_the_commit_message_is_one_that_the_hook_accepts(block, tmp_path):
    message = tmp_path / "message"
    message.write_text(block.text)

    done = subprocess.run(
        [sys.executable, ROOT / "tools/commit_message.py", message], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


# Tests that documents show


@pytest.mark.parametrize("block", [b for b in BLOCKS if is_pytest(b) and b.check is None], ids=str)
def test_a_test_that_uses_the_fixture_passes(block, project):
    done = project(block.text)

    assert f"{block.text.count('def test_')} passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.otp
@checked_by("otp-test")
def test_a_test_with_real_erlang_passes(block, tmp_path):
    from beam import NoSuchOtp
    from cluster import running_cluster
    from polling import wait_until

    names = {"wait_until": wait_until}
    exec(block.text, names)
    (test,) = (value for name, value in names.items() if name.startswith("test_"))

    with running_cluster(tmp_path) as cluster:
        try:
            test(cluster)
        except NoSuchOtp as why:
            skip_or_fail(str(why))


# Programs and logs


def program_environment(epmd_port):
    """The environment of an example: its own EPMD port, and the build of this run."""
    return {
        "ERL_EPMD_PORT": str(epmd_port),
        "ERLMESH_PURE": os.environ.get("ERLMESH_PURE", ""),
        "PYTHONPATH": str(ROOT / "src"),
    }


def test_the_program_of_the_readme_prints_a_greeting(tmp_path, free_port):
    (code,) = (b.text for b in BLOCKS if b.page == "README.md" and b.check is None and "asyncio.run(" in b.text)
    script = tmp_path / "example.py"
    script.write_text(code)
    environment = {**program_environment(free_port), "PYTHONUNBUFFERED": "1"}

    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as example:
        try:
            lines = [example.stdout.readline() for _ in range(2)]
        finally:
            example.kill()

    assert "knows no node 'plato'" in lines[0]
    assert re.fullmatch(r"<0\.\d+\.0> says hi\n", lines[1])


@checked_by("blocked-loop-log")
def test_the_log_names_the_line_that_blocks_the_loop(block, tmp_path, free_port):
    from answers import same

    script = tmp_path / "worker.py"
    script.write_text(BLOCKS_THE_LOOP)
    environment = {**program_environment(free_port), "HOME": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True, timeout=30
    )

    shown = block.text.replace("plato@10.0.0.7", "plato@127.0.0.1").replace("/app/worker.py", str(script))
    assert any(same(shown, printed) for printed in _heads(done.stderr)), done.stderr


BLOCKS_THE_LOOP = """
import asyncio, logging, time
from erlmesh import Node

class model:
    fit = staticmethod(time.sleep)

data = 3.5

def work():
    model.fit(data)

async def main():
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    async with Node("plato@127.0.0.1", cookie="monster") as node:
        await asyncio.sleep(0.1)
        work()

asyncio.run(main())
"""


def _heads(text):
    """The text up to each of its lines."""
    lines = text.splitlines()
    return ["\n".join(lines[:count]) for count in range(1, len(lines) + 1)]


# Names in the text


def test_the_methods_that_the_page_about_testing_names_exist():
    from erlmesh.testing.cluster import Cluster

    page = (ROOT / "docs/howto/testing.md").read_text()
    names = set(re.findall(r"\bmesh\.(\w+)", page.replace("erlmesh.", "")))

    assert {"partition", "heal", "pause", "resume", "kill"} <= names
    assert [name for name in sorted(names) if not hasattr(Cluster, name) and name != "history"] == []
    assert Cluster().history == []
    assert asyncio.iscoroutinefunction(Cluster.sleep)


def test_every_variable_in_the_documents_has_a_meaning():
    from erlmesh.cli.settings import VARIABLES

    for page in documents():
        named = set(re.findall(r"\bERLMESH_[A-Z_]+[A-Z]\b", page.read_text()))
        unknown = named - set(VARIABLES) - {"ERLMESH_PORT", "ERLMESH_STATE", "ERLMESH_GOSSIP_SECRET"}
        assert unknown == set(), page


# Traces


@checked_by("seq-trace")
def test_the_elixir_lines_set_the_token_that_the_otp_test_uses(block):
    """``tests/otp/test_traces_otp.py`` runs them with a BEAM. Elixir's OpenTelemetry is not installed there."""
    test = (ROOT / "tests/otp/test_traces_otp.py").read_text()

    assert "set_token(:label, :otel_propagator_text_map.inject([]))" in block.text
    assert "seq_trace:set_token(label, [{<<" in test


# Incidents


@checked_by("incident")
def test_the_series_of_an_incident_exist(block):
    from erlmesh.services.metrics.catalogue import METRICS

    labels = {}
    for metric in METRICS:
        suffixes = ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",)
        labels |= {metric.series + suffix: {"node", "le", *metric.labels} for suffix in suffixes}
    for line in block.text.splitlines():
        name, given, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
        assert {*re.findall(r'(\w+)="', given)} <= labels[name], line
        assert float(value) >= 0


@checked_by("incident-log")
def test_the_lines_of_an_incident_have_events_that_exist(block):
    from erlmesh.log_events import EVENTS

    for line in block.text.splitlines():
        record = json.loads(line)
        assert record["event"] in EVENTS
        assert {"time", "level", "logger", "node", "message"} <= record.keys()
