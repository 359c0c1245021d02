"""One data set's rows on the disk: each message once through restarts, versions that stay, the quota, bad messages."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.event import Event
from heliograph.bus.contract.resources.telemetry_source import TelemetrySource
from heliograph.core.world import World, rfc3339
from heliograph.dataset_arrays import arrays
from heliograph.edge_agent.datasets.indexing import index
from heliograph.edge_agent.datasets.known_files import KnownFiles
from heliograph.edge_agent.recording.recording import Recording, Version, open_recording

WINDOW = {"fields": ["x"], "window": {"length": 4}}
STATE = {"field": "state", "classes": ["ok", "bad"]}


class Recorded:
    """A recording of a device ``press``, whose time goes on by a second with each message."""

    def __init__(self, directory: Path, **source: Any) -> None:
        self.directory = directory / "recording"
        self.source = TelemetrySource.model_validate(source)
        self.refused: list[str] = []
        self.warned: list[str] = []
        self.now = 1000.0
        self.world = World(now=lambda: self.now)
        self._numbers = itertools.count(1)
        self.known = KnownFiles(directory / "known.db", World(), self.warned.append)
        self.open()

    def open(self, journal: str = "journal") -> Recording:
        self.recording = open_recording(self.directory, self.source, journal, self.world,
                                        lambda address, error: self.refused.append(str(error.about(address))),
                                        self.warned.append)  # fmt: skip
        return self.recording

    def restart(self, **source: Any) -> Recording:
        """Open the recording again, as after a kill: what is not committed is lost."""
        self.recording.close()
        if source:
            self.source = TelemetrySource.model_validate(source)
        return self.open()

    def tell(self, *messages: Any, device: str = "press") -> None:
        """Take messages and commit them together."""
        self.recording.begin()
        for data in messages:
            self.take(next(self._numbers), data, device)
        self.recording.commit(max(self.number, self.recording.mark))

    def take(self, number: int, data: Any, device: str = "press") -> None:
        self.number, self.now = number, self.now + 1
        event = Event("id", f"edge-1/{device}/mqtt", "heliograph.telemetry.v1", data, rfc3339(self.now))
        self.recording.take(number, device, f"event/telemetry/edge-1/{device}", event)

    def version(self) -> Version:
        made = self.recording.make_version()
        assert made is not None
        return made

    def rows(self) -> dict[str, np.ndarray[Any, Any]]:
        return arrays(self.version().path)


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Recorded]:
    return lambda **source: Recorded(tmp_path, **source)


def test_rows_have_shape_type_time_and_label(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["v.x", "v.y"], window={"length": 3, "stride": 2}, label=STATE)
    here.tell({"v": {"x": [1, 2, 3], "y": [4, 5, 6]}, "state": "bad"}, {"v": {"x": [7, 8], "y": [9, 9]}, "state": "ok"})
    rows = here.rows()
    assert rows["x"].tolist() == [[[1, 4], [2, 5], [3, 6]], [[3, 6], [7, 9], [8, 9]]]
    assert {name: each.dtype.str for name, each in rows.items()} == {"x": "<f4", "time": "<f8", "y": "<i8"}
    assert rows["time"].tolist() == [1001, 1002] and rows["y"].tolist() == [1, 0]
    assert here.recording.make_version() == here.version()  # equal rows are one version


def test_slow_sensors_make_a_row_each_and_numbers_as_labels(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["t", "h"], label={"field": "kw"})
    here.tell({"t": 20, "h": 0.5, "kw": 1.5}, {"t": 21, "h": 0.4, "kw": 2})
    rows = here.rows()
    assert (rows["x"].shape, rows["y"].dtype, rows["y"].tolist()) == ((2, 2), np.float32, [1.5, 2])


def test_a_message_counts_once_whenever_the_agent_is_killed(recorded: Callable[..., Recorded]) -> None:
    """The journal gives again what was not committed, and more than that: all of it."""
    here = recorded(**WINDOW, label={"field": "state", "classes": ["ok", "bad"], "withinSeconds": 100})
    messages = [{"x": [float(3 * each + inner) for inner in range(3)]} for each in range(20)]
    messages.insert(10, {"state": "ok"})
    messages.append({"state": "bad"})
    for killed_after in range(len(messages)):
        here.recording.begin()
        for number, data in enumerate(messages[: killed_after + 1], 1):
            here.take(number, data)
        if killed_after % 2:  # killed before the commit
            here.restart()
            continue
        here.recording.commit(killed_after + 1)
        here.restart()
    here.recording.begin()
    for number, data in enumerate(messages, 1):
        here.take(number, data)
    here.recording.commit(len(messages))
    rows = here.rows()
    assert rows["x"][:, :, 0].ravel().tolist() == [float(each) for each in range(60)]
    assert here.recording.counts.recorded == 15 and not here.recording.counts.unlabelled


def test_another_journal_begins_at_its_first_number(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["x"])
    here.tell({"x": 1}, {"x": 2})
    here.recording.close()
    here.open("another")
    here.recording.begin()
    here.take(1, {"x": 3})
    here.recording.commit(1)
    assert here.rows()["x"].ravel().tolist() == [1, 2, 3]


def test_a_version_stays_as_it_is_while_rows_come_and_go(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["x"], keep={"rows": 16})
    here.tell(*({"x": each} for each in range(16)))
    first = here.version()
    before = arrays(first.path)
    here.tell(*({"x": each} for each in range(16, 32)))
    second = here.version()
    assert arrays(second.path)["x"].ravel().tolist() == [float(each) for each in range(16, 32)]
    assert here.recording.counts.dropped == 16
    here.recording.keep_only({first.path, second.path})
    assert arrays(first.path)["x"].tolist() == before["x"].tolist()
    here.recording.keep_only({second.path})
    assert not first.path.exists() and second.path.exists()


def test_a_quota_of_bytes_holds_and_each_row_that_goes_is_counted(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["x"], window={"length": 4096}, keep={"megabytes": 1})
    for number in range(200):
        here.tell({"x": [number] * 4096})
        if number % 10 == 9:
            made = here.version()
            here.recording.keep_only({made.path})
            assert sum(each.stat().st_size for each in made.path.iterdir()) <= 1.1 * 2**20
    rows = here.rows()["x"][:, 0, 0].tolist()
    assert rows == [float(each) for each in range(200 - len(rows), 200)] and len(rows) > 50
    assert here.recording.counts.dropped == 200 - len(rows)


def test_rows_go_when_they_are_old(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["x"], keep={"days": 1})
    here.tell({"x": 1})
    here.now += 86400
    here.tell({"x": 2})
    assert here.rows()["x"].tolist() == [[2]] and here.recording.counts.dropped == 1


def test_the_index_tells_rows_growth_and_labels_without_numpy(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["x"], keep={"rows": 16}, label=STATE)

    def indexed() -> Any:
        path = here.version().path
        return index("d", path, roots=(path,), counts_labels=True, known=here.known, recorded=True)

    here.tell(*({"x": each, "state": "ok"} for each in range(10)))
    first = indexed()
    assert (first.error, first.samples, first.new_samples, first.labels) == ("", 10, 10, {"0": 10})
    assert first.columns == {"x": "float32[1]", "time": "float64", "y": "int64"}
    here.tell(*({"x": each, "state": "bad"} for each in range(5)))
    second = indexed()
    assert (second.parent, second.samples, second.new_samples) == (first.version, 15, 5)
    here.tell(*({"x": each, "state": "bad"} for each in range(9)))
    third = indexed()  # the oldest have gone, and are not called changed
    assert (third.samples, third.new_samples, third.labels) == (16, 9, {"0": 2, "1": 14})
    here.tell(*({"x": each, "state": "bad"} for each in range(40)))
    fourth = indexed()
    assert fourth.new_samples == fourth.samples == 16  # none of what was known is left


@pytest.mark.parametrize(("data", "said"), [
    ({"y": [1]}, "field x: expected a number, got a message without it"),
    ({"x": "warm"}, "field x: expected a number, got warm"),
    ({"x": [1, float("nan")]}, "field x: expected a finite number that float32 holds, got nan"),
    ({"x": {"deep": 1}}, "field x: expected a number"),
    (None, "field x: expected a number"),
    ({"x": [1], "state": "worn"}, "field state: expected one of ok, bad, got worn"),
])  # fmt: skip
def test_a_bad_message_is_counted_said_and_changes_nothing(
    recorded: Callable[..., Recorded], data: Any, said: str
) -> None:
    here = recorded(**WINDOW, label={**STATE, "withinSeconds": 9, "rule": "last"})
    here.tell({"x": [1, 2], "state": "ok"}, data, {"x": [3], "state": "ok"})
    here.tell({"x": [4, 5]})
    assert here.refused == [each for each in here.refused if said in each] and len(here.refused) == 1
    assert here.refused[0].startswith("event/telemetry/edge-1/press field ")
    assert here.recording.counts.unreadable == 1
    assert here.rows()["x"][0, :2].ravel().tolist() == [1, 2]


def test_a_list_needs_a_window(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["x"])
    here.tell({"x": [1, 2]}, {"x": 3})
    assert "window" in here.refused[0] and here.rows()["x"].tolist() == [[3]]


def test_rows_wait_for_their_label_and_are_left_out_without_one(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["x"], devices=["press"], label={**STATE, "field": "terminal/state", "withinSeconds": 5})
    here.tell({"x": 1}, {"x": 2})
    assert (here.recording.counts.waiting, here.recording.make_version()) == (2, None)
    here.restart()
    here.tell({"state": "bad"}, device="terminal")
    assert here.rows()["y"].tolist() == [1, 1] and here.recording.counts.waiting == 0
    here.now += 100
    here.tell({"x": 3})
    assert here.recording.next_overdue == here.now + 5
    here.now += 5
    here.recording.begin()
    here.recording.commit(here.recording.mark)
    counts = here.recording.counts
    assert (counts.waiting, counts.unlabelled, counts.recorded) == (0, 1, 2)


def test_joined_devices_make_rows_of_samples(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["a/t", "b/t"], join={"everySeconds": 2}, window={"length": 2})
    for number in range(6):
        here.tell({"t": number}, device="a")
        here.tell({"t": -number}, device="b")
        here.restart()
    assert here.rows()["x"].tolist() == [[[1, 0], [2, -1]], [[3, -2], [4, -3]]]


def test_another_document_begins_anew_but_another_quota_does_not(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["x"])
    here.tell({"x": 1, "y": 2})
    here.restart(fields=["x"], keep={"megabytes": 2}, everySeconds=5, forward=False)
    assert here.rows()["x"].tolist() == [[1]]
    here.restart(fields=["y"])
    assert here.recording.make_version() is None
    here.tell({"x": 1, "y": 3})
    assert here.rows()["x"].tolist() == [[3]]


def test_more_devices_than_fit_are_refused(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["x"], window={"length": 65536}, keep={"megabytes": 64})
    for number in range(70):
        here.tell({"x": [1.0]}, device=f"d{number}")
    assert 0 < here.recording.counts.unreadable == len(here.refused) < 10
    assert "at most 6" in here.refused[0]


def test_a_damaged_file_is_set_aside(recorded: Callable[..., Recorded]) -> None:
    here = recorded(fields=["x"])
    here.tell({"x": 1})
    here.recording.close()
    for end in ("-wal", "-shm"):
        (here.directory / f"rows.db{end}").unlink(missing_ok=True)
    (here.directory / "rows.db").write_bytes(b"no database" * 1000)
    here.open()
    assert "set aside" in here.warned[0] and here.recording.make_version() is None
    here.tell({"x": 2})
    assert here.rows()["x"].tolist() == [[2]]
