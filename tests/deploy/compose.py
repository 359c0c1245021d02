"""Reads ``docker-compose.yaml`` as Docker does, and runs its services as processes of this machine."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from heliograph.core.world import World
from heliograph.local.child import Child
from tests.patience import HANGS

FILE = Path(__file__).parents[2] / "deploy" / "docker-compose.yaml"
HOME = "/var/lib/heliograph"
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def read(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the file's tree with its variables put in."""
    text = FILE.read_text()
    given = variables or {}
    tree: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(lambda each: given.get(each[1]) or each[2], text))
    return tree


@dataclass
class Services:
    """The services of the file, with other paths and ports in place of those of containers.

    Args:
        directory: in place of the volumes and of what is mounted.
        replaced: words of commands in place of others.
    """

    directory: Path
    replaced: Mapping[str, str]

    def child(self, name: str, *command: str, more: tuple[str, ...] = ()) -> Child:
        """Return a service as a process, with another command if one is given."""
        service = read()["services"][name]
        words = [*service.get("entrypoint", ["heliograph"]), *(command or service["command"]), *more]
        [volume] = [each.partition(":")[0] for each in service["volumes"]]
        home = self.directory / volume
        home.mkdir(exist_ok=True)
        there = {HOME: str(home)} | dict(self.replaced)
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        variables = {name: self._put(value, there) for name, value in service.get("environment", {}).items()}
        return Child(name, [self._put(word, there) for word in words], variables | {"PATH": programs}, self.directory,
                     World(), lambda line: None)  # fmt: skip

    async def done(self, name: str, *command: str, more: tuple[str, ...] = ()) -> str:
        """Run a service that ends; return what it has printed as its output."""
        child = self.child(name, *command, more=more)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HELIOGRAPH_")}
        run = await asyncio.create_subprocess_exec(
            *child.argv, env=environment | child.environment, cwd=self.directory, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(run.communicate(), HANGS)
        assert run.returncode == 0, err.decode()
        return out.decode()

    @staticmethod
    def _put(word: str, there: Mapping[str, str]) -> str:
        for old, new in there.items():
            word = word.replace(old, new)
        return word
