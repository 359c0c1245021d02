"""The options of the long-running processes, each of which an environment variable may set."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NoReturn

COMMANDS = {"agent": "Run an edge's agent, or the cloud's if named cloud.", "coordinator": "Run the coordinator."}
_EXAMPLES = {
    "agent": "heliograph agent --name edge-1 --node mqtt://127.0.0.1:1883 --code /code",
    "coordinator": "(set -a; . cloud/environment/coordinator.env; exec heliograph coordinator)",
}
CREDENTIALS = "put credentials into the variable: every user of the machine can read an argument"
"""What the help of an option for a URL says."""


class ProcessOptions(argparse.ArgumentParser):
    """A parser that reports mistakes on one line with exit code 2, like the other commands."""

    def __init__(self, command: str) -> None:
        super().__init__(
            prog=f"heliograph {command}", description=COMMANDS[command], allow_abbrev=False,
            epilog=f"Example:\n  {_EXAMPLES[command]}", formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        self.add_argument(
            "--insecure", action=_AllowInsecure, nargs=0,
            help="Reach other machines without TLS: others may read passwords and data. [HELIOGRAPH_INSECURE=1]",
        )  # fmt: skip

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}. Try '{self.prog} --help'.", file=sys.stderr)
        raise SystemExit(2)

    def setting(self, option: str, variable: str, metavar: str, help: str, default: str | None = None) -> None:
        """Add an option whose default an environment variable may set."""
        value = os.environ.get(variable, default)
        self.add_argument(
            option,
            metavar=metavar,
            default=value,
            required=value is None,
            help=f"{help} [{variable}]".replace("%", "%%"),
        )

    def switch(self, option: str, variable: str, help: str) -> None:
        """Add an option without a value, which an environment variable may set to 1."""
        self.add_argument(
            option, action="store_true", default=os.environ.get(variable) == "1", help=f"{help} [{variable}=1]"
        )

    def repeatable(self, option: str, metavar: str, help: str) -> None:
        self.add_argument(option, metavar=metavar, action="append", default=[], help=f"{help} Repeatable.")

    def number(self, option: str, metavar: str, most: int, help: str, default: int | None = 0) -> None:
        def parse(text: str) -> int:
            if not text.isdigit() or int(text) > most:
                raise argparse.ArgumentTypeError(f"expected 0 to {most}, got {text[:40]}")
            return int(text)

        self.add_argument(option, metavar=metavar, type=parse, default=default, help=help)

    def directory(self, option: str, path: Path) -> Path:
        if not path.is_dir():
            self.error(f"invalid value for {option}: expected a directory that exists on this node, got {path}")
        return path

    def factor(self, text: str, option: str, most: float) -> float:
        try:
            factor = float(text)
        except ValueError:
            factor = math.nan
        if not 1 <= factor <= most:
            self.error(f"invalid value for {option}: expected 1 to {most:g}, got {text[:40]}")
        return factor

    def pairs(self, given: Sequence[str], option: str) -> dict[str, str]:
        found = {}
        for text in given:
            key, equals, value = text.partition("=")
            if not equals or not key or not value:
                self.error(f"invalid value for {option}: expected NAME=VALUE, got {text[:80]}")
            found[key] = value
        return found

    def digests(self, given: Sequence[str], option: str) -> frozenset[str]:
        from heliograph.core.names import is_digest

        for text in given:
            if not is_digest(text):
                self.error(f"invalid value for {option}: expected a SHA-256 in 64 hexadecimal digits, got {text[:80]}")
        return frozenset(given)

    def headers(self, given: Sequence[str]) -> dict[str, Literal["yes", "no"]]:
        found: dict[str, Literal["yes", "no"]] = {}
        for name, value in self.pairs(given, "--header").items():
            if value not in ("yes", "no"):
                self.error(f"invalid value for --header: expected NAME=yes or NAME=no, got {name[:40]}={value[:40]}")
            found[name] = "yes" if value == "yes" else "no"
        return found


class _AllowInsecure(argparse.Action):
    """Sets the variable, which this process's workers inherit."""

    def __call__(self, *_: object) -> None:
        from heliograph.bus.connection_url import INSECURE

        os.environ[INSECURE] = "1"
