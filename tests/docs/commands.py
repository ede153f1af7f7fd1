"""Checks command lines of the documents without running them."""

from __future__ import annotations

import contextlib
import io
import re
import shlex

import yaml
from blocks import ROOT

from erlmesh.cli.commands import build_parser

__all__ = ["check_command", "command_lines"]

IMAGES = {"localhost/erlmesh:dev", "localhost/erlmesh-elixir:dev", "erlmesh"}
MADE_FILES = {"docker/secret/cookie"}  # by `make cookie`
DOCKER_COMMANDS = {"attach", "build", "compose", "exec", "kill", "network", "pause", "run", "start", "stop", "unpause"}
RUN_OPTIONS_WITH_VALUE = {"--name", "--hostname", "--network", "-v", "--volume", "-e", "--env", "-p"}


def command_lines(text: str) -> list[str]:
    """The commands of a block, without ``$``, comments and line continuations."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = (re.sub(r"(^|\s+)#.*$", "", line).strip().removeprefix("$ ") for line in joined.splitlines())
    return [line.removesuffix("&").strip() for line in lines if line]


def check_command(line: str) -> None:
    """Raises AssertionError if ``line`` is not a command that exists, with options that exist."""
    for part in re.sub(r"^([A-Z]+=\S+ )+", "", line).split(" | "):
        words = shlex.split(part.replace("$PWD", "."))
        checker = _CHECKERS.get(words[0])
        assert checker is not None, f"no test can check the command {line!r}"
        checker(words[1:])


def _check_erlmesh(words: list[str]) -> None:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = _exit_code(words)
    assert code == 0, f"erlmesh {shlex.join(words)}: {errors.getvalue()}"


def _exit_code(words: list[str]) -> object:
    try:
        build_parser(words[0] if words else "").parse_args(words)
    except SystemExit as end:  # also after --help
        return end.code
    return 0


def _check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for word in words:
        assert word in targets or re.match(r"(ARGS|SEEDS?|FIRST)=", word), f"make has no target {word!r}"


def _check_docker(words: list[str]) -> None:
    command, *arguments = words
    assert command in DOCKER_COMMANDS, f"docker {command} is not known to the tests"
    if command == "compose":
        _check_compose(arguments)
    elif command == "run":
        _check_docker_run(arguments)
    elif command == "exec":
        words = [word for word in arguments if not word.startswith("-it")]
        check_command(shlex.join(words[1:]))
    elif command == "build":
        assert (ROOT / "Dockerfile").exists()


def _check_docker_run(arguments: list[str]) -> None:
    rest = list(arguments)
    while rest[0].startswith("-"):
        option = rest.pop(0)
        if option in RUN_OPTIONS_WITH_VALUE:
            value = rest.pop(0)
            if option in ("-v", "--volume"):
                source, target = value.split(":")[:2]
                assert source.removeprefix("./") in MADE_FILES, value
                assert target == "/run/secrets/cookie"
            if option in ("-e", "--env"):
                assert value.partition("=")[0].startswith("ERLMESH_"), value
    assert rest[0] in IMAGES, f"{rest[0]} is not an image that `make` builds"
    if rest[1:]:
        check_command(shlex.join(rest[1:]))


def _check_compose(arguments: list[str]) -> None:
    project = yaml.safe_load((ROOT / "compose.yaml").read_text())
    rest = list(arguments)
    while rest[0] == "-f":
        assert (ROOT / rest[1]).exists(), rest[1]
        rest = rest[2:]
    if rest[0] == "--profile":
        profiles = {name for each in project["services"].values() for name in each.get("profiles", [])}
        assert rest[1] in profiles, rest[1]
        rest = rest[2:]
    command, *rest = rest
    assert command in {"up", "down", "ps", "exec"}, command
    if command == "exec":
        assert rest[0] in project["services"], rest[0]
        check_command(shlex.join(rest[1:]))


def _check_python(words: list[str]) -> None:
    import importlib.util

    if words[0] == "-m":
        assert (ROOT / "tests" / words[1]).is_dir() or importlib.util.find_spec(words[1]) is not None, words[1]
    else:
        assert words[0].endswith(".py"), words[0]


def _check_pip(words: list[str]) -> None:
    assert words[0] == "install", words
    assert all(re.fullmatch(r"(erlmesh|\.)(\[(shell|dns|fast|certs|metrics|otel)\])?", word) for word in words[1:]), (
        words
    )


def _check_iex(words: list[str]) -> None:
    assert set(words[::2]) <= {"--name", "--cookie", "--remsh", "--erl"}, words


def _check_erl(words: list[str]) -> None:
    assert set(words[::2]) <= {"-name", "-sname", "-setcookie", "-proto_dist", "-ssl_dist_optfile"}, words


def _ignore(_words: list[str]) -> None:
    """Programs of the system."""


_CHECKERS = {
    "erlmesh": _check_erlmesh,
    "make": _check_make,
    "docker": _check_docker,
    "docker-compose": _check_compose,
    "python": _check_python,
    "pip": _check_pip,
    "iex": _check_iex,
    "erl": _check_erl,
    "echo": _ignore,
    "pytest": _ignore,
}
