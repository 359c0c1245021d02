"""The default presentation of a kind on the command line, and the presentations of the built-in kinds."""

from __future__ import annotations

from heliograph.bus.contract.registry import BUILT_IN
from heliograph.cli.asking.kinds import KINDS
from heliograph.cli.presentation import Presentation, presentation_of, table
from heliograph.cli.progress import Progress

NOW = 1_000_000.0


def _document(phase: str, uid: str = "1", **status: object) -> dict[str, object]:
    metadata = {"name": "north", "uid": uid, "creationTimestamp": "1970-01-12T13:46:00Z"}
    return {"metadata": metadata, "status": {"phase": phase} | status}


def _failing(message: str) -> list[dict[str, str]]:
    return [{"type": "Ready", "status": "False", "reason": "Missing", "message": message}]


def test_the_default_columns() -> None:
    shown = Presentation()
    assert shown.columns == "NAME PHASE AGE NOTE"
    assert shown.row(_document("Pending", conditions=_failing("no oil")), NOW) == ["north", "Pending", "40s", "no oil"]
    assert shown.row({"metadata": {"name": "new"}}, NOW) == ["new", "", "", ""]


def test_the_default_progress_shows_each_phase_and_condition_once_and_ends() -> None:
    progress = Progress("beacon", "north", ("Succeeded", "Failed", "Stopped"))
    pending = _document("Pending", conditions=_failing("no oil"))
    assert [*progress.lines(pending)] == ["beacon/north Pending", "Ready=False Missing: no oil"]
    assert [*progress.lines(pending)] == []
    assert not progress.ended
    assert [*progress.lines(_document("Failed"))] == ["beacon/north Failed"]
    assert (progress.ended, progress.exit_code) == (True, 1)


def test_another_resource_of_the_name_is_not_followed() -> None:
    progress = Progress("beacon", "north", ("Succeeded",))
    assert [*progress.lines(_document("Running"))] == ["beacon/north Running"]
    assert [*progress.lines(_document("Succeeded", uid="2"))] == []
    assert (progress.deleted, progress.ended) == (True, False)


def test_every_built_in_kind_has_columns_of_its_own_and_a_cell_for_each() -> None:
    for plural in BUILT_IN.features:
        assert presentation_of(plural) != Presentation()
        columns, rows = table(plural, [{"kind": "Model", "metadata": {"name": "new"}, "spec": {}, "status": {}}], NOW)
        assert (columns[0], rows[0][0]) == ("NAME", "new")
        assert len(columns) == len(rows[0])


def test_the_help_names_every_built_in_kind() -> None:
    for plural in BUILT_IN.features:
        assert plural in KINDS
