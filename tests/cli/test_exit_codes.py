"""Exit codes: one for each kind of error, a page for each code; an example in each help that is understood."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from heliograph.cli import process_options
from heliograph.cli.app import app
from heliograph.cli.exit_codes import EXIT_CODES, exit_code_of
from heliograph.core.errors import Conflict, Forbidden, HeliographError, LinkDown, NobodyAnswers, Refused, Unreachable

PAGES = Path(__file__).parents[2] / "docs" / "exit-codes"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("invalid"), 1), (HeliographError("x"), 1), (OSError("x"), 1), (Refused("exists"), 1),
        (Refused("not-found"), 4), (Refused("no-version"), 4),
        (Unreachable("x"), 5), (NobodyAnswers("x"), 5), (LinkDown("x"), 5), (TimeoutError(), 5),
        (Refused("unavailable"), 5), (Refused("too-many-requests"), 5),
        (Forbidden("x"), 6), (Refused("forbidden"), 6),
        (Conflict("x"), 7), (Refused("conflict"), 7),
        (BaseExceptionGroup("", [Refused("not-found")]), 4),
    ],
)  # fmt: skip
def test_the_code_of_an_error(error: BaseException, code: int) -> None:
    assert exit_code_of(error) == code


def test_codes_stay_what_they_are() -> None:
    assert {each.code: each.name for each in EXIT_CODES.values()} == {
        0: "done", 1: "failed", 2: "not understood", 3: "deleted", 4: "not found", 5: "unreachable", 6: "forbidden",
        7: "conflict", 130: "interrupted",
    }  # fmt: skip


@pytest.mark.parametrize("code", EXIT_CODES)
def test_each_code_has_a_page_that_help_prints(typed: Any, code: int) -> None:
    ran = typed("help", str(code), "--markdown")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (PAGES / f"{code}.md").read_text(), "docs/exit-codes is not up to date: make exit-codes"
    shown = typed("help", str(code)).out
    assert shown.startswith(f"Exit code {code}: {EXIT_CODES[code].name}\n")
    assert max(map(len, shown.splitlines())) <= 90


def test_the_table_of_codes_is_in_the_documentation(typed: Any) -> None:
    assert typed("help", "exit-codes", "--markdown").out == (PAGES / "README.md").read_text()
    assert [line.split()[0] for line in typed("help", "exit-codes").out.splitlines()[: len(EXIT_CODES)]] == [
        str(code) for code in EXIT_CODES
    ]


def test_help_explains_commands_and_codes_of_errors(typed: Any) -> None:
    assert typed("help", "get").out == typed("get", "--help").out
    assert typed("help", "trace", "record").out == typed("trace", "record", "--help").out
    assert typed("help", "agent").out == typed("agent", "--help").out
    assert typed("help").out == typed("--help").out
    of_error = typed("help", "not-found").out
    assert of_error.startswith("Error not-found\n")
    assert of_error.endswith("Exit code: 4\n")


@pytest.mark.parametrize("words", [["8"], ["frobnicate"], ["get", "jobs"], ["get", "--markdown"]])
def test_help_for_something_else_is_a_mistake(typed: Any, words: list[str]) -> None:
    ran = typed("help", *words)
    assert (ran.code, ran.out) == (2, "")
    assert "WORD: expected " in ran.error


def _commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, found in getattr(command, "commands", {}).items():
        yield from _commands(found, (*words, name))
    if not hasattr(command, "commands"):
        yield words, command


ROOT = typer.main.get_command(app)
COMMANDS = {words: command for words, command in _commands(ROOT) if words[0] not in process_options.COMMANDS}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_commands_help_has_an_example_that_is_understood(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    text = command.get_help(typer.Context(command, info_name=" ".join(("heliograph", *words))))
    behind = text.replace("Examples:", "Example:").partition("Example:")[2]
    assert f"heliograph {' '.join(words)}" in " ".join(behind.split()), f"{words} has no example"
    for example in (command.epilog or "").partition("\b")[2].splitlines()[2:]:
        if example.strip().startswith("source <("):  # a shell's own
            example = example.strip().removeprefix("source <(").removesuffix(")")
        typed = shlex.split(re.split(r" [>|] ", example)[0])
        assert typed[: len(words) + 1] == ["heliograph", *words], example
        command.make_context(words[-1], typed[len(words) + 1 :])  # raises where it is not understood


@pytest.mark.parametrize("name", process_options.COMMANDS)
def test_the_long_running_commands_have_an_example_too(typed: Any, name: str) -> None:
    assert "Example:\n" in typed(name, "--help").out
