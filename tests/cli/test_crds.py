"""``crds``: the files of the custom resource definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from heliograph.bus.contract.custom_resources.definitions import definitions, files


def test_the_command_writes_the_files(typed: Any, tmp_path: Path) -> None:
    ran = typed("crds", str(tmp_path / "new"))
    assert (ran.code, ran.err) == (0, "")
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == files()
    assert yaml.safe_load(files()["edgeai.io_edges.yaml"]) == definitions()["edgeai.io_edges.yaml"]


def test_a_directory_that_cannot_be_written_is_one_line(typed: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = typed("crds", str(tmp_path / "file"))
    assert ran.code == 1 and "cannot write to" in ran.error
