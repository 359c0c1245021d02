"""The journal: acknowledged events survive a restart, in order, under numbers that are never used twice."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.contract.topics import BULK, RESULTS
from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.edge_agent import journal as journals
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import OVERHEAD, NewEvent
from heliograph.edge_agent.state_migration import FORMAT
from tests.edge_agent.journals import Open, bodies

LABEL, TELEMETRY = "edge/edge-1/up/label/j", "event/telemetry/edge-1/d"


async def test_events_keep_their_order_per_lane(journal_at: Open) -> None:
    journal = journal_at()
    await asyncio.gather(*(journal.append(NewEvent(LABEL, bytes([n]), n % 2)) for n in range(20)))
    assert journal.waiting == 20
    uuid = journal.uuid
    journal = journal_at()
    assert (journal.uuid, journal.waiting) == (uuid, 20)
    for lane in (0, 1):
        window = journal.read(lane, 0, 100, 10**6)
        numbers = [each.n for each in window.events]
        assert numbers == list(range(numbers[0], numbers[0] + 10))
        assert [each.body[0] for each in window.events] == list(range(lane, 20, 2))
        assert window.through == numbers[-1]
    assert [each.n for each in journal.read(1, numbers[6], 2, 10**6).events] == numbers[7:9]


async def test_a_window_ends_at_its_bytes_but_is_never_empty(journal_at: Open) -> None:
    journal = journal_at()
    for _ in range(3):
        await journal.append(NewEvent(LABEL, bytes(100), RESULTS))
    assert len(journal.read(RESULTS, 0, 100, 250).events) == 2
    assert [journal.read(RESULTS, 0, most, 10**6).last for most in (1, 100)] == [False, True]
    assert not journal.read(RESULTS, 0, 100, 250).last
    assert len(journal.read(RESULTS, 0, 100, 10).events) == 1


async def test_a_number_is_never_used_twice(journal_at: Open) -> None:
    numbers: list[int] = []
    for _ in range(3):  # even if every event has been deleted
        journal = journal_at()
        await journal.append(NewEvent(LABEL, b"x", RESULTS))
        numbers.append(journal.read(RESULTS, 0, 10, 100).through)
        await journal.forget(RESULTS, numbers[-1])
        assert journal.read(RESULTS, 0, 10, 100).events == []
    assert numbers == sorted(set(numbers))


async def test_a_producers_next_number_is_accepted_once(journal_at: Open) -> None:
    journal = journal_at()
    first = NewEvent(LABEL, b"1", 0, "worker", "life-1", 1)
    assert journal.accepts(first)
    kept = journal.append(first)
    assert not journal.accepts(first)
    assert not journal.accepts(NewEvent(LABEL, b"3", 0, "worker", "life-1", 3))
    assert journal.committed("worker", "life-1") == 0
    await kept
    assert journal.committed("worker", "life-1") == 1
    journal = journal_at()
    assert not journal.accepts(first)
    assert journal.accepts(NewEvent(LABEL, b"2", 0, "worker", "life-1", 2))
    assert journal.accepts(NewEvent(LABEL, b"1", 0, "worker", "life-2", 1))


async def test_a_flood_of_devices_drives_out_the_oldest_devices_and_no_worker(
    journal_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "MAX_PRODUCERS", 8)
    journal = journal_at()
    await journal.append(NewEvent(LABEL, b"1", 0, "worker/w", "life", 1))
    for number in range(40):
        await journal.append(NewEvent(TELEMETRY, b"1", BULK, f"device/{number}", "life", 1))
    for again in (journal, journal_at()):
        known = [number for number in range(40) if again.committed(f"device/{number}", "life")]
        assert known == [*range(33, 40)]
        assert again.committed("worker/w", "life") == 1
        assert again.accepts(NewEvent(TELEMETRY, b"1", BULK, "device/0", "life", 1))


async def test_many_events_share_one_sync(journal_at: Open) -> None:
    journal = journal_at()
    futures = {journal.append(NewEvent(TELEMETRY, b"x", BULK)) for _ in range(1000)}
    assert len(futures) <= 2
    await asyncio.gather(*futures)


async def test_committed_events_are_synced(tmp_path: Path) -> None:
    connections: list[sqlite3.Connection] = []

    def noted(path: Path) -> sqlite3.Connection:
        connections.append(World().database(path))
        return connections[-1]

    journal = Journal(tmp_path / "journal.db", "edge-1", World(database=noted))
    writer = connections[0]  # the first connection writes, the second reads
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    journal.close()
    with pytest.raises(sqlite3.ProgrammingError):  # the journal has closed it
        writer.execute("PRAGMA synchronous")


async def test_documents_outlive_the_process(journal_at: Open) -> None:
    journal = journal_at()
    assert journal.load("desired") == b""
    await journal.save("desired", b"{}")
    assert journal_at().load("desired") == b"{}"


async def test_another_edges_journal_is_refused(journal_at: Open) -> None:
    await journal_at().append(NewEvent(LABEL, b"x", RESULTS))
    with pytest.raises(HeliographError, match=r"belongs to edge edge-1, not edge-2\. Give this agent a --state"):
        journal_at("edge-2")
    assert bodies(journal_at(), RESULTS) == [b"x"]


async def test_a_newer_versions_journal_is_refused(journal_at: Open, tmp_path: Path) -> None:
    await journal_at().append(NewEvent(LABEL, b"x", RESULTS))
    _change(tmp_path, "UPDATE meta SET value = ? WHERE key = 'version'", str(FORMAT + 1))
    with pytest.raises(HeliographError, match=f"format {FORMAT + 1}, written by heliograph .* up to format {FORMAT}"):
        journal_at()
    _change(tmp_path, "UPDATE meta SET value = ? WHERE key = 'version'", str(FORMAT))
    assert bodies(journal_at(), RESULTS) == [b"x"]


# the quota


def test_only_bulk_may_be_dropped_and_never_updates_or_labels() -> None:
    lanes = {topic.name: topic.lane for topic in BUILT_IN.topics if topic.delivery == "event" and topic.bridged == "up"}
    assert lanes == {"model-update": RESULTS, "evaluation": RESULTS, "label": RESULTS,
                     "label-task": RESULTS, "candidate": RESULTS, "verdict": RESULTS, "pair-result": RESULTS,
                     "hard-sample": BULK, "telemetry": BULK, "inference-stats": BULK}  # fmt: skip


async def test_at_the_quota_the_oldest_bulk_events_go_and_are_counted(journal_at: Open, logged: list[str]) -> None:
    journal = journal_at(quota=100_000)
    await journal.append(NewEvent(LABEL, b"label", RESULTS))
    for n in range(300):
        await journal.append(NewEvent(TELEMETRY, b"%03d" % n + bytes(1000), BULK))
    left = [int(body[:3]) for body in bodies(journal, BULK)]
    assert left == list(range(300 - len(left), 300))
    assert 80 <= len(left) < 100
    assert journal.dropped == 300 - len(left)
    assert journal.waiting == len(left) + 1
    assert bodies(journal, RESULTS) == [b"label"]
    assert [line for line in logged if "the oldest bulk events go" in line] == logged
    assert journal_at(quota=100_000).dropped == 300 - len(left)


async def test_the_quota_drops_no_event_on_its_way(journal_at: Open) -> None:
    journal = journal_at(quota=100_000)
    for n in range(50):
        await journal.append(NewEvent(TELEMETRY, b"%03d" % n + bytes(1000), BULK))
    on_its_way = journal.read(BULK, 0, 20, 10**9)
    for n in range(50, 200):
        await journal.append(NewEvent(TELEMETRY, b"%03d" % n + bytes(1000), BULK))
    left = bodies(journal, BULK)
    assert [int(body[:3]) for body in left[:20]] == list(range(20))
    assert journal.dropped == 200 - len(left)
    assert journal.waiting == len(left)
    journal.count_stored(len(on_its_way.events))
    await journal.forget(BULK, on_its_way.through)
    assert journal.waiting == len(bodies(journal, BULK)) == len(left) - 20


async def test_results_are_refused_rather_than_dropped_and_accepted_when_there_is_room(journal_at: Open) -> None:
    journal = journal_at(quota=10 * (1000 + len(LABEL) + OVERHEAD))
    events = [NewEvent(LABEL, b"%03d" % n + bytes(997), RESULTS, "worker", "life", n) for n in range(1, 12)]
    for entry in events[:10]:
        await journal.append(entry)
    with pytest.raises(HeliographError, match="full of events that wait for the cloud and must not be dropped"):
        await journal.append(events[10])
    assert journal.accepts(events[10])  # the refused event stays acceptable, so the producer can send it again
    assert len(bodies(journal, RESULTS)) == 10
    await journal.forget(RESULTS, journal.read(RESULTS, 0, 1, 1).through)
    await journal.append(events[10])
    assert [int(body[:3]) for body in bodies(journal, RESULTS)] == list(range(2, 12))


async def test_an_opening_that_cannot_be_counted_is_refused_in_one_sentence(journal_at: Open, tmp_path: Path) -> None:
    body = bytes(100_000)  # the log beside the file is the largest one, and cannot grow
    await journal_at().append(NewEvent(LABEL, body, RESULTS))
    killed = tmp_path / "killed"  # as the file lies there after SIGKILL: with that log
    killed.mkdir()
    for file in tmp_path.glob("journal.db*"):
        (killed / file.name).write_bytes(file.read_bytes())
    with _full_disk(killed), pytest.raises(HeliographError, match=r"journal\.db: .*\. The agent needs room"):
        Journal(killed / "journal.db", "edge-1", World())
    assert bodies(Journal(killed / "journal.db", "edge-1", World()), RESULTS) == [body]


async def test_a_failed_commit_leaves_no_gap(journal_at: Open, tmp_path: Path) -> None:
    journal = journal_at()
    await journal.append(NewEvent(LABEL, b"1", RESULTS, "worker", "life", 1))
    with _full_disk(tmp_path):
        lost = journal.append(NewEvent(LABEL, bytes(1 << 20), RESULTS, "worker", "life", 2))
        behind = journal.append(NewEvent(LABEL, b"3", RESULTS, "worker", "life", 3))
        with pytest.raises(HeliographError, match=r"journal\.db: (disk I/O error|database or disk is full)"):
            await lost
        with pytest.raises(HeliographError):
            await behind
    assert journal.committed("worker", "life") == 1
    again = NewEvent(LABEL, b"2", RESULTS, "worker", "life", 2)
    assert journal.accepts(again)
    await journal.append(again)
    assert bodies(journal, RESULTS) == [b"1", b"2"]


# damage


"""An SQL expression: a text that is no UTF-8."""


@pytest.mark.parametrize("file_is_there", [True, False])
def test_a_directory_that_can_not_be_written_is_named(file_is_there: bool) -> None:
    with TemporaryDirectory() as directory:  # outside pytest's directory, which other users may not enter
        path = Path(directory) / "journal.db"
        if file_is_there:
            asyncio.run(_begin(path))
        for each in (*Path(directory).iterdir(), Path(directory)):
            each.chmod(0o555 if each.is_dir() else 0o444)
        error = _as_nobody(lambda: asyncio.run(_begin(path)))
    assert error.startswith(f"journal {path}: ")
    assert "needs room and the right to write in its --state directory" in error


async def test_a_file_that_can_not_be_opened_is_named(journal_at: Open, tmp_path: Path) -> None:
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(HeliographError, match=r"journal\.db: .*needs room and the right to write in its --state"):
        journal_at()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["append", "forget", "reopen"]), st.integers(0, 1)), max_size=40))
def test_any_sequence_of_starts_appends_and_clearings_keeps_all_that_waits(steps: list[tuple[str, int]]) -> None:
    async def run(directory: Path) -> None:
        journal = Journal(directory / "journal.db", "edge-1", World())
        expected: dict[int, list[bytes]] = {0: [], 1: []}
        highest = {0: 0, 1: 0}
        for place, (step, lane) in enumerate(steps):
            if step == "append":
                body = b"%d" % place
                await journal.append(NewEvent(LABEL, body, lane))
                expected[lane].append(body)
                now = journal.read(lane, 0, 10**6, 10**9).through
                assert now > highest[lane]
                highest[lane] = now
            elif step == "forget" and expected[lane]:
                await journal.forget(lane, journal.read(lane, 0, 1, 1).through)
                del expected[lane][0]
            elif step == "reopen":
                journal.close()
                journal = Journal(directory / "journal.db", "edge-1", World())
                assert journal.waiting == sum(map(len, expected.values()))
            assert {each: bodies(journal, each) for each in (0, 1)} == expected
        journal.close()

    with TemporaryDirectory() as directory:
        asyncio.run(run(Path(directory)))


async def _begin(path: Path) -> None:
    Journal(path, "edge-1", World()).close()


def _as_nobody(action: Callable[[], None]) -> str:
    """Return the error of an action in a process without root's rights, because root may write everywhere."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            action()
        except HeliographError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def _change(directory: Path, statement: str, *values: str) -> None:
    with sqlite3.connect(directory / "journal.db") as connection:
        connection.execute(statement, values)
    connection.close()


class _full_disk:
    """A limit on this process's files, which cannot grow within it, as on a full disk."""

    def __init__(self, directory: Path) -> None:
        largest = max(each.stat().st_size for each in directory.glob("journal.db*") if each.suffix != ".reserve")
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._limit = largest

    def __enter__(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._limit, self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)
