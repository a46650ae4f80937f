"""Every command of deploy/README.md can be run: options and services exist, and nothing in it is spelt otherwise."""

import re
import shlex
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml
from typer.core import TyperGroup

from services.cli.commands import app
from services.cli.workers import EVERYONE

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "deploy/README.md").read_text()
SERVICES: Final = yaml.safe_load((ROOT / "deploy/docker-compose.yml").read_text())["services"]
MAKEFILE: Final = (ROOT / "Makefile").read_text()
TARGETS: Final = set(re.findall(r"^([a-z0-9-]+):.*## ", MAKEFILE, re.MULTILINE))
LINES: Final = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line and not line.startswith("alias ")
]
INLINE: Final = sorted(set(re.findall(r"`((?:otb|make|dc) [^`]+)`", TEXT.replace("\n", " "))))
COMPOSE_VERBS: Final = {"run", "up", "stop", "start", "restart", "exec"}


def parsed(words: list[str], *, complete: bool) -> None:
    """Parse an otb command as the program would, without running it; ``complete`` asks for its arguments, too."""
    command: Any = typer.main.get_command(app)
    context: Any = None
    name: str | None = "otb"
    rest = list(words)
    while isinstance(command, TyperGroup):  # a group alone is a list of commands
        context = command.make_context(name, rest, parent=context)
        left = [*context._protected_args, *context.args]
        if not left and command.invoke_without_command:
            return
        name, command, rest = command.resolve_command(context, left)
        assert command is not None
    if complete:
        command.make_context(name, rest, parent=context)
    else:
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known


def named(words: list[str]) -> list[str]:
    """Return the services a compose command is about."""
    return [word for word in words if word in SERVICES]


def check(words: list[str], *, complete: bool) -> None:
    match words:
        case ["make", target, *_]:
            assert target in TARGETS
        case ["otb"] | ["dc", "run", "--rm", "otb"]:
            assert not complete
        case ["otb", *rest]:
            parsed(rest, complete=complete)
        case ["dc", verb, *rest]:
            assert verb in COMPOSE_VERBS
            assert named(rest), "it names a service of the compose file"
            if verb in ("stop", "start", "restart"):
                assert set(rest) <= SERVICES.keys()
            if verb == "run" and "otb" in rest:
                parsed(rest[rest.index("otb") + 1 :], complete=complete)
        case _:
            raise AssertionError(f"what is {words[0]}?")


@pytest.mark.parametrize("line", LINES)
def test_each_line_of_a_block_can_be_pasted(line: str) -> None:
    words = shlex.split(line, comments=True)
    check([word for word in words if words[0] == "otb" or word not in ("<", "books.dump")], complete=True)


@pytest.mark.parametrize("command", INLINE)
def test_each_command_in_the_text_exists(command: str) -> None:
    check(shlex.split(command.replace("...", "")), complete=False)


def test_a_misspelt_command_would_be_seen() -> None:
    for wrong in (
        "otb republsh",
        "otb restore books.dump --no-such",
        "otb restore",
        "make upgrad",
        "dc stop settlemnt",
    ):
        with pytest.raises((typer.exceptions.TyperException, AssertionError)):
            check(shlex.split(wrong), complete=True)


def test_what_stops_before_an_upgrade_is_every_worker() -> None:
    (listed,) = re.findall(r"^WORKERS := (.*)$", MAKEFILE, re.MULTILINE)
    assert {worker.name for worker in EVERYONE} == set(listed.split())
    (steps,) = re.findall(r"^upgrade:.*\n\t@(.*)$", MAKEFILE, re.MULTILINE)
    assert [step.split()[1] for step in steps.split(" && ")[:2]] == ["build", "stop"]
    assert steps.split(" && ")[1].endswith("stop $(WORKERS)")
    assert steps.endswith(" up")


def test_every_secret_has_its_row_in_the_table_of_changes() -> None:
    section = TEXT[TEXT.index("### Changing secrets") : TEXT.index("### When Kafka lost")]
    told = set(re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\| ([^|]+)\|", section, re.MULTILINE))))
    services = {worker.package for worker in EVERYONE}
    for name in yaml.safe_load((ROOT / "deploy/docker-compose.yml").read_text())["secrets"]:
        kind, _, whose = name.partition("_")
        assert (f"{kind}_<service>" if whose in services else name) in told, name
