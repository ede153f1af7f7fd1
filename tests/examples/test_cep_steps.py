"""The steps of examples/cep/README.md run, and show what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
README = (EXAMPLES / "cep" / "README.md").read_text()


@pytest.fixture
def run_step(free_port):
    """Run a step in the folder `examples`, as the README says, and return the lines that it prints."""

    def run(step):
        environment = os.environ | {"ERL_EPMD_PORT": str(free_port), "PYTHONPATH": str(EXAMPLES.parent / "src")}
        program = subprocess.run(
            [sys.executable, "-m", f"cep.{step}"],
            env=environment, cwd=EXAMPLES, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert program.returncode == 0, program.stdout + program.stderr
        assert not program.stderr
        return program.stdout.splitlines()

    return run


def shown(step):
    """The lines that the README shows after the command of a step."""
    _, _, after = README.partition(f"python -m cep.{step}\n")
    block = re.search(r"```text\n(.*?)```", after, re.DOTALL)
    return block[1].splitlines()


def test_the_readme_names_every_step_and_every_step_has_a_test():
    steps = {path.stem for path in (EXAMPLES / "cep").glob("step*.py")}

    assert set(re.findall(r"python -m cep\.(step\w+)", README)) == steps
    assert all(f'run_step("{step}")' in Path(__file__).read_text() for step in steps)


def test_a_group_divides_the_ticks_of_a_symbol(run_step):
    lines = run_step("step1_group")

    assert len(lines) == 6
    for line in lines:
        *parts, total = [int(of or there) for of, there in re.findall(r"of (\d+) ticks|there are (\d+)", line)]
        assert sum(parts) == total
        assert max(parts) < total


def test_an_owner_has_all_ticks_until_its_node_stops(run_step):
    lines = run_step("step2_owner")

    assert [line for line in lines if line in shown("step2_owner")] == shown("step2_owner")


def test_an_outbox_brings_all_ticks_to_an_owner(run_step):
    lines = run_step("step4_outbox")

    assert lines[-1:] == shown("step4_outbox")


def test_a_state_survives_the_loss_of_its_owner(run_step):
    lost, *symbols = run_step("step5_state")

    assert [lost, *symbols[:2]] == shown("step5_state")
    assert len(symbols) == 6
    for line in symbols:
        assert re.search(r": (\d+) of \1 means are those of one process$", line), line


def test_one_node_at_a_time_holds_a_shard(run_step):
    lines = [line for line in run_step("step3_shards") if not line.startswith("  ")]

    assert lines == shown("step3_shards")
