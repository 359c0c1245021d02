"""Which machine, and which state of the code, a run was measured on; nothing that tells whose machine it is."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Machine(BaseModel):
    """What a figure depends on beside our code: cores, CPU model, kernel and Python version."""

    model_config = ConfigDict(frozen=True)

    cores: int
    cpu: str
    kernel: str
    python: str

    def like(self, other: Machine) -> bool:
        """Whether figures of the two are held against each other. A kernel and Python's third number may differ:
        otherwise each of their updates would begin the history anew, and hide what it cost."""
        return (self.cores, self.cpu, _minor(self.python)) == (other.cores, other.cpu, _minor(other.python))

    def __str__(self) -> str:
        return f"{self.cores} × {self.cpu}, Linux {self.kernel}, Python {self.python}"


def this_machine() -> Machine:
    """The one this runs on."""
    kernel = re.match(r"[0-9.]*[0-9]", platform.release())  # what follows the number often names its owner
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        cores=cores, cpu=_cpu(), kernel=kernel[0] if kernel else "unknown", python=platform.python_version()
    )


def revision(folder: Path | None = None) -> str:
    """The git revision of the code, with a ``+`` where files differ from it; "unknown" outside a repository."""
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
