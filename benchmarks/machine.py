"""The machine and the revision of the code that a run was measured on; nothing that identifies the owner."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Machine(BaseModel):
    """The machine's part in a figure: cores, CPU model, kernel and Python version."""

    model_config = ConfigDict(frozen=True)

    cores: int
    cpu: str
    kernel: str
    python: str

    def comparable(self, other: Machine) -> bool:
        """Return whether figures of the two machines may be compared.

        The kernel and Python's patch version may differ: otherwise every update would restart the history and hide its
        own cost.
        """
        return (self.cores, self.cpu, _minor(self.python)) == (other.cores, other.cpu, _minor(other.python))

    def __str__(self) -> str:
        return f"{self.cores} × {self.cpu}, Linux {self.kernel}, Python {self.python}"


def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    kernel = re.match(r"[0-9.]*[0-9]", platform.release())  # the rest often names the machine's owner
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        cores=cores, cpu=_cpu(), kernel=kernel[0] if kernel else "unknown", python=platform.python_version()
    )


def revision(folder: Path | None = None) -> str:
    """Return the git revision of the code, with a ``+`` if files differ from it; "unknown" outside a repository."""
    git = ["git", "-C", str(folder or Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True)
        changes = [*git, "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(changes, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
