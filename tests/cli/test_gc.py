"""``gc``: traces whose stated life is over go, others stay; what the cloud has collected is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.traces.life import KEPT_UNTIL, kept_until, old_traces
from heliograph.bus.traces.writing import TraceWriter
from heliograph.cli.app import run
from heliograph.cli.catalog import gc
from heliograph.core.world import World


def _trace(path: Path, days: float | None) -> Path:
    path.parent.mkdir(exist_ok=True)
    metadata = {} if days is None else {KEPT_UNTIL: kept_until(World().now(), days)}
    with TraceWriter(path, metadata=metadata):
        pass
    return path


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    _trace(tmp_path / "old.mcap", -1)
    _trace(tmp_path / "deep" / "older.mcap", -40)
    _trace(tmp_path / "young.mcap", 3)
    _trace(tmp_path / "for-ever.mcap", None)
    (tmp_path / "broken.mcap").write_text("no trace")
    (tmp_path / "link.mcap").symlink_to(tmp_path / "old.mcap")
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def _left(directory: Path) -> set[str]:
    files = (each for each in directory.rglob("*") if each.is_file() and not each.is_symlink())
    return {str(each.relative_to(directory)) for each in files}


def test_traces_go_once_their_stated_life_is_over(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = _left(traces)
    assert run(["gc", "--traces", str(traces), "--dry-run"]) == 0
    tried = capsys.readouterr().out
    assert "2, " in tried
    assert "would be deleted" in tried
    assert _left(traces) == every
    assert run(["gc", "--traces", str(traces), "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(Path(each["name"]).name for each in found["items"]) == ["old.mcap", "older.mcap"]
    assert "broken.mcap stays" in found["notes"][0]
    assert _left(traces) == every - {"old.mcap", "deep/older.mcap"}
    assert run(["gc", "--traces", str(traces)]) == 0
    assert "nothing deleted" in capsys.readouterr().out


def test_a_trace_whose_life_is_no_time_stays(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "odd.mcap", metadata={KEPT_UNTIL: "soon"}):
        pass
    found, notes = old_traces(tmp_path, World().now())
    assert (found, len(notes)) == ([], 1)


def test_a_directory_that_is_none_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gc", "--traces", str(tmp_path / "none")]) == 2
    assert "expected a directory" in capsys.readouterr().err


def test_collections_are_repeated_until_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [{"items": [{"kind": "blob", "name": "a" * 64, "size": 2_000_000, "reason": "nothing names it"}],
              "notes": [], "more": True},
             {"items": [{"kind": "version", "name": "m/1", "size": 0, "reason": "old"}], "notes": ["look"],
              "more": False}]  # fmt: skip

    class Models:
        async def collect(self, *, dry_run: bool) -> dict[str, Any]:
            assert not dry_run
            return parts.pop(0)

    class Client:
        models = Models()

    def ask(server: str | None, what: Any) -> Any:
        import asyncio

        return asyncio.run(what(Client()))

    monkeypatch.setattr(gc, "ask", ask)
    assert run(["gc"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-2:] == ["2, 2 MB deleted", "note: look"]
    assert "m/1" in out
