"""The folder that a run leaves: models, metrics, logs, and what the workers wrote."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from heliograph.core.errors import HeliographError
from heliograph.core.private_files import make_private

RUNS = Path("heliograph-runs")
"""Directory of the folders that nobody named, in the user's working directory."""


class RunFolder:
    """The places in a run's folder.

    Attributes:
        model: the last global model.
        best: the global model with the best evaluation.
        models: directory of the rounds' global models.
        edges: directory of what each edge's workers wrote and printed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / "model.safetensors"
        self.best = path / "best.safetensors"
        self.models = path / "models"
        self.edges = path / "edges"
        self.metrics_csv = path / "metrics.csv"
        self.metrics_jsonl = path / "metrics.jsonl"
        self.log = path / "log.txt"

    @classmethod
    def create(cls, wanted: Path | None, script: Path) -> RunFolder:
        """Make a new folder: ``wanted``, or the next number of the script's name below ``RUNS``.

        Raise HeliographError where it cannot be written, or where ``wanted`` has files of another run.
        """
        with _writing(wanted or RUNS):
            if wanted is None:
                return cls(make_private(_next(RUNS, script.stem)))
            make_private(wanted)
            if any(wanted.iterdir()):
                raise HeliographError(f"{wanted} is not empty; --folder takes a new or an empty directory")
            _try_to_write(wanted)
            return cls(wanted)

    def discard(self, refused: bool) -> None:
        """Delete the folder of a run that made nothing: that was refused, or that failed before it had a log. Leave the
        directory that the user named."""
        if not refused and any(path.is_file() for path in self.path.rglob("*")):
            return
        for path in self.path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self.path.parent == RUNS:
            self.path.rmdir()
            with contextlib.suppress(OSError):  # other runs are in it
                RUNS.rmdir()


def require_writable(file: Path) -> None:
    """Raise HeliographError unless ``file`` can be written; make its directory where it is missing."""
    if file.is_dir():
        raise HeliographError(f"{file} is a directory; --out takes the file of the model")
    with _writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        _try_to_write(file.parent)


def link_or_copy(source: Path, target: Path) -> Path:
    """Make ``target`` the same file as ``source``, whole at every moment. Return ``target``."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, partial)
    return partial.replace(target)


def copy(source: Path, target: Path) -> Path:
    """Copy a file for its user alone, whole at every moment. Return ``target``."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, partial)
    partial.chmod(0o600)
    return partial.replace(target)


def _next(parent: Path, stem: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    numbers = (each.name.removeprefix(f"{stem}-") for each in parent.iterdir() if each.name.startswith(f"{stem}-"))
    number = max((int(text) for text in numbers if text.isdecimal()), default=0) + 1
    while True:
        place = parent / f"{stem}-{number}"
        try:
            place.mkdir()
        except FileExistsError:  # another run has begun at the same time
            number += 1
        else:
            return place


def _try_to_write(directory: Path) -> None:
    probe = directory / f".heliograph-{os.getpid()}"
    probe.touch()
    probe.unlink()


@contextlib.contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise HeliographError(f"{place} cannot be written: {reason}; the model would be lost after the training. Name "
                              "another place with --out and --folder") from None  # fmt: skip
