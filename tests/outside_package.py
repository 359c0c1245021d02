"""A package outside Heliograph, installed from ``tests/data`` beside the environment."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

DATA = Path(__file__).parent / "data"


def install(place: Path, name: str, group: str, entries: Sequence[str]) -> None:
    """Copy the folder ``tests/data/<name>`` to ``place`` and declare its entry points, each ``name = module:object``.

    A process finds the package with ``place`` in its path.
    """
    shutil.copytree(DATA / name, place)
    info = place / f"outside_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: outside-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *entries, ""]))
