"""A finding: write the input to a file, print how to replay it, and read it again."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from heliograph.core.errors import HeliographError
from heliograph.simulations.input_fuzz.catalog import target_of
from heliograph.simulations.input_fuzz.minimise import minimise
from heliograph.simulations.input_fuzz.sandbox import Fault, Sandbox

COMMAND = "python -m heliograph.simulations.input_fuzz"


@dataclass(frozen=True)
class Finding:
    """An input that a target does not take."""

    target: str
    fault: Fault
    data: bytes

    def write(self, directory: Path) -> Path:
        """Write the input to ``<directory>/<target>.<digest>.bin``."""
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / f"{self.target}.{hashlib.sha256(self.data).hexdigest()[:12]}.bin"
        file.write_bytes(self.data)
        return file

    def minimised(self, sandbox: Sandbox) -> Finding:
        """Return the finding with a smaller input of the same fault."""

        def fails(data: bytes) -> bool:
            found = sandbox.read(self.target, data).fault
            return found is not None and found.kind == self.fault.kind

        return Finding(self.target, self.fault, minimise(self.data, fails))


def describe(finding: Finding, file: Path) -> str:
    """Return a report for people, with the command to replay the finding."""
    return (
        f"{finding.target}: {finding.fault.kind}\n{finding.fault.text.rstrip()}\n"
        f"input of {len(finding.data)} bytes: {file}\nto replay: {COMMAND} --replay {file}\n"
    )


def replay(file: Path, sandbox: Sandbox) -> Finding | None:
    """Read a written input, whose file's name begins with its target's and a dot; it may be packed by gzip. Return the
    finding, if it still is one."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise HeliographError(f"{file}: {error.strerror}") from None
    if file.suffix == ".gz":
        data = gzip.decompress(data)
    target = target_of(file.name.partition(".")[0]).name
    fault = sandbox.read(target, data).fault
    return Finding(target, fault, data) if fault is not None else None
