"""The programs of the pages about owners and shards, beside Elixir nodes."""

import pytest
from blocks import block

from polling import wait_until
from test_gen_server_otp import COMPILE
from test_phoenix_pubsub_otp import elixir_node

pytestmark = [pytest.mark.otp, pytest.mark.timeout(120)]


def test_a_conversation_stays_with_its_worker_until_that_ends(cluster, program):
    web = elixir_node(cluster, "web", None, channels=False)
    web.eval("{ok, _} = pg:start(pg)")
    web.eval(COMPILE, Source=block("same-worker-elixir").encode())
    workers = {f"{name}@127.0.0.1".encode(): program("same-worker-python", name) for name in ("one", "two", "three")}
    wait_until(lambda: web.eval("length(pg:get_members(chat))") == 3, 60)
    conversations = [f"conversation {number}".encode() for number in range(30)]

    def ask_all():
        answers = web.eval("['Elixir.MyApp.Chat':ask(C, <<>>) || C <- Cs__]", Cs__=conversations)
        return dict(zip(conversations, answers, strict=True))

    first, second = ask_all(), ask_all()
    assert {name for name, _ in first.values()} == set(workers)
    assert second == {each: (name, 2) for each, (name, _) in first.items()}

    workers[b"two@127.0.0.1"].kill()
    wait_until(lambda: web.eval("length(pg:get_members(chat))") == 2)
    for each, (name, turns) in ask_all().items():
        moved = first[each][0] == b"two@127.0.0.1"
        assert turns == (1 if moved else 3)
        assert (name != first[each][0]) == moved


def lines_of(process, text):
    return [line for line in list(process.log) if text in line]


@pytest.fixture
def watcher(cluster):
    """A node that sees the groups. It is started before the programs, and the EPMD with it."""
    return cluster.pynode("watcher")


def wait_for_candidates(watcher, name, count):
    """Wait until ``count`` programs take part in the shards of ``name``."""
    wait_until(lambda: watcher.ping("plato@127.0.0.1"), 60)
    wait_until(lambda: watcher.eval("len(node.pg.get_members((b'erlmesh_shards', name)))", name=name) == count, 60)


def test_one_node_runs_the_job_and_another_one_takes_over(watcher, program):
    programs = {"plato": program("singleton", "plato")}
    for name in ("socrates", "aristotle"):
        programs[name] = program("singleton", name, "plato@127.0.0.1")
    wait_for_candidates(watcher, b"scheduler", 3)

    def runner():
        """The only one that runs the job, when it has done some steps."""
        before = {name: len(lines_of(each, "runs the job")) for name, each in programs.items()}

        def steps(name):
            return len(lines_of(programs[name], "runs the job")) - before[name]

        wait_until(lambda: max(map(steps, programs)) > 3, 60)
        (name,) = [name for name in programs if steps(name)]
        return name

    first = runner()
    programs.pop(first).kill()
    assert runner() in programs


def test_consumers_divide_the_shards_and_the_rest_takes_over(watcher, program):
    plato = program("consumer-group", "plato")
    wait_until(lambda: len(lines_of(plato, "plato takes")) == 64, 60)
    socrates = program("consumer-group", "socrates", "plato@127.0.0.1")
    wait_for_candidates(watcher, b"feeds", 2)

    wait_until(lambda: len(lines_of(socrates, "socrates takes")) > 16)

    socrates.kill()
    wait_until(lambda: len(lines_of(plato, "plato takes")) - len(lines_of(plato, "plato ends")) == 64)
    assert len(lines_of(plato, "plato takes")) < 64 + 48
