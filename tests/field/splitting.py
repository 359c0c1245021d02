"""Splits a data set, and compares each part with what an agent makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heliograph.core.errors import HeliographError
from heliograph.edge_agent.datasets import index
from heliograph.local.split import Split
from heliograph.local.split_file import Parts, split_file

EDGES = ["edge-1", "edge-2", "edge-3"]


def parts_of(
    path: Path, tmp_path: Path, split: Split | None = None, *, edges: list[str] = EDGES, **options: Any
) -> Parts:
    """Split a data set; fail unless each edge's agent reads from its part what the splitter wrote."""
    parts = split_file(path, tmp_path / "parts", edges, split or Split(), seed=1, **options)
    for edge, file in parts.files.items():
        found = index(edge, file, header=options.get("header"))
        assert (found.error, found.samples) == ("", parts.samples[edge])
    return parts


def refusal_of(path: Path, tmp_path: Path, split: Split | None = None, **options: Any) -> str:
    with pytest.raises(HeliographError) as caught:
        parts_of(path, tmp_path, split, **options)
    return str(caught.value)
