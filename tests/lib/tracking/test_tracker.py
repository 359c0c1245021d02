"""Following a job by its documents alone, as a login does that may read no streams: each round once, none missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar, cast

import pytest

from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.world import World
from heliograph.tracking import tracker
from heliograph.tracking.closed_round import ClosedRound
from heliograph.tracking.stored_rounds import StoredEvaluation
from heliograph.tracking.tracker import DELETED, Tracker, facts_of
from tests.lib.tracking.remembering_run import RememberingRun


def document(
    rounds: list[int], phase: str = "Running", uid: str = "u1", evaluated: tuple[int, ...] = (), late: int = 0
) -> dict[str, Any]:
    worker = {"trainScriptBootFile": "train.py", "parameters": [{"key": "lr", "value": 0.1}]}
    return {
        "metadata": {"name": "digits", "uid": uid},
        "spec": {
            "rounds": 9,
            "aggregationWorker": {"model": {"name": "net"}, "workerSpec": {"aggregationAlgorithm": "FedAvg"}},
            "trainingWorkers": [{"name": "a", "workerSpec": worker}, {"name": "b"}],
        },
        "status": {
            "phase": phase, "lateCount": late,
            "rounds": [
                {"round": number, "counted": 1, "edges": ["a"], "model": "d", "numSamples": 10, "durationSeconds": 1.0,
                 "metrics": {"loss": 1 / number}} | ({"evaluation": {"accuracy": 0.5}} if number in evaluated else {})
                for number in rounds
            ],
        },
    }  # fmt: skip


class PlayedClient:
    """Answers ``jobs.watch`` with what a test gives: documents, and errors in their place. The last list is the rest's.

    Args:
        watches: what each watch yields.
    """

    bus = None

    def __init__(self, *watches: list[Any]) -> None:
        self._watches = list(watches)
        self.jobs = self

    async def watch(self, name: str) -> AsyncIterator[dict[str, Any]]:
        assert name == "digits"
        for each in self._watches.pop(0):
            if isinstance(each, Exception):
                raise each
            yield each


class PlayedStreams:
    """Yields what a test has put into ``stored`` since the last call, whoever reads."""

    stored: ClassVar[list[list[Any]]] = []

    def __init__(self, bus: Any, job: str, uid: str, node: str) -> None:
        self._left = [*self.stored]

    async def new(self) -> AsyncIterator[Any]:
        for each in self._left.pop(0) if self._left else []:
            if isinstance(each, Exception):
                raise each
            yield each


def close(number: int, *edges: str, late: tuple[str, ...] = ()) -> ClosedRound:
    return ClosedRound(number, 100.0 + number, len(edges), 10, 1.0, {"loss": 1.0}, edges=edges, late=late, refused=(),
                       duplicates=0)  # fmt: skip


async def no_pause(seconds: float) -> None: ...


@pytest.fixture
def tracked() -> Callable[..., Any]:
    """Return ``await tracked(watches, *runs)``, which tracks and returns the phase and the notes."""

    async def track(watches: list[list[Any]], *runs: RememberingRun) -> tuple[str, list[str]]:
        notes: list[str] = []
        client = cast(AsyncClient, PlayedClient(*watches))
        phase = await Tracker(client, "digits", runs, World(sleep=no_pause), notes.append).run()
        return phase, notes

    return track


async def test_each_round_and_each_evaluation_once(tracked: Any) -> None:
    run = RememberingRun()
    phase, notes = await tracked([[
        document([]), document([1]), document([1]), document([1, 2, 3], evaluated=(1,), late=2),
        document([1, 2, 3], "Succeeded", evaluated=(1, 3), late=2),
    ]], run)  # fmt: skip
    assert phase == "Succeeded"
    assert notes == ["job/digits is tracked: memory"]
    assert (run.rounds, run.evaluations) == ([1, 2, 3], [1, 3])
    assert run.curve("edge/a/counted") == [(1, 1), (2, 2), (3, 3)]
    assert run.curve("train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert run.curve("total/late") == [(1, 0), (3, 2)]  # nobody tells how many there were at round 2
    assert run.curve("test/accuracy") == [(1, 0.5), (3, 0.5)]
    assert run.closed == ["Succeeded"]


async def test_another_tracker_goes_on(tracked: Any) -> None:
    run, fresh = RememberingRun(), RememberingRun()
    with pytest.raises(HeliographError, match="ended"):
        await tracked([[document([1, 2], evaluated=(1,)), HeliographError("ended")]], run)
    assert run.closed == [""]
    assert (await tracked([[document([1, 2, 3, 4], "Succeeded", evaluated=(1, 2))]], run, fresh))[0] == "Succeeded"
    for each in (run, fresh):  # one place has some rounds, the other none
        assert (sorted(each.rounds), sorted(each.evaluations)) == ([1, 2, 3, 4], [1, 2])
        assert each.curve("edge/a/counted") == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert (await tracked([[document([1, 2, 3, 4], "Succeeded", evaluated=(1, 2))]], run))[0] == "Succeeded"
    assert len(run.records) == 6  # a third time there is nothing to write


async def test_a_cluster_that_is_away_is_waited_for(tracked: Any) -> None:
    run = RememberingRun()
    away = Unreachable("no coordinator answers")
    last = [document([1, 2]), document([1, 2, 3], "Failed")]
    phase, notes = await tracked([[document([1]), away], [away], [away], last], run)
    assert phase == "Failed"
    assert notes == ["job/digits is tracked: memory", "no coordinator answers; waiting"]
    assert run.rounds == [1, 2, 3]
    assert len(run.opened) == 1


async def test_a_place_that_is_away_is_waited_for_though_its_last_write_was_done(tracked: Any) -> None:
    run, other = RememberingRun(failing={2, 4}), RememberingRun()
    phase, notes = await tracked([
        [document([1, 2, 3])], [document([1, 2, 3], evaluated=(3,))],
        [document([1, 2, 3, 4], "Succeeded", evaluated=(3,))],
    ], run, other)  # fmt: skip
    assert phase == "Succeeded"
    assert (run.rounds, run.evaluations, other.rounds, other.evaluations) == ([1, 2, 3, 4], [3], [1, 2, 3, 4], [3])
    assert run.curve("edge/a/counted") == other.curve("edge/a/counted") == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert notes[2:] == ["no answer came; waiting"]
    assert (len(run.opened), len(other.opened)) == (3, 1)


async def test_rounds_that_nobody_has_any_more_are_named(tracked: Any) -> None:
    run = RememberingRun()
    _, notes = await tracked([[document([1]), document([101, 102]), document([102, 104], "Succeeded")]], run)
    assert notes[1:] == [
        "rounds 2 to 100 are kept nowhere any more: memory lacks them, and the sums begin without them",
        "round 103 is kept nowhere any more: memory lacks them, and the sums begin without them",
    ]
    assert run.rounds == [1, 101, 102, 104]


async def test_what_was_never_there_or_not_reached_is_said_at_once(tracked: Any) -> None:
    run = RememberingRun()
    with pytest.raises(Refused) as refused:
        await tracked([[Refused("not-found")]], run)
    assert refused.value.code == "not-found"
    with pytest.raises(Unreachable):
        await tracked([[Unreachable("nobody")]], run)
    assert run.opened == []


async def test_a_deleted_job_ends_its_run(tracked: Any) -> None:
    for watches in (
        [[document([1])]], [[document([1]), Unreachable("away")], [Refused("not-found")]],
        [[document([1]), Unreachable("away")], [document([1, 2], uid="u2")]],
    ):
        run = RememberingRun()
        assert (await tracked(watches, run))[0] == DELETED
        assert (run.rounds, run.closed) == ([1], [DELETED])


async def test_a_job_that_goes_on_after_a_failure_has_the_same_run(tracked: Any) -> None:
    run = RememberingRun()
    await tracked([[document([1, 2], "Failed")]], run)
    again = document([1, 2, 3], "Succeeded", uid="u2")
    again["status"]["firstRun"] = "u1"
    assert (await tracked([[again]], run))[0] == "Succeeded"
    assert run.rounds == [1, 2, 3]
    assert {each.series for each in run.opened} == {"u1"}
    other = RememberingRun()
    meanwhile = [[document([1, 2]), Unreachable("away")], [again]]
    assert (await tracked(meanwhile, other))[0] == "Succeeded"
    assert other.rounds == [1, 2, 3]


async def test_streams_say_what_the_rounds_of_the_document_were(tracked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "StoredRounds", PlayedStreams)
    monkeypatch.setattr(PlayedStreams, "stored", [
        [close(0, "a"), close(2, "a", "b", late=("c",)), StoredEvaluation(2, {"accuracy": 0.75}, 102.5)],
        [close(3, "b"), close(3, "b"), close(4)],
        [close(5)],
    ])  # fmt: skip
    run = RememberingRun()
    documents = [document([1, 2]), document([1, 2, 3]), document([1, 2, 3, 4], "Failed", late=7)]
    phase, notes = await tracked([documents], run)
    assert (phase, notes[1:]) == ("Failed", [])
    assert run.rounds == [1, 2, 3, 4]  # the first is the document's alone; the one that failed the job is in none
    assert run.curve("edge/b/counted") == [(2, 1), (3, 2)]
    assert run.curve("edge/c/late") == [(2, 1)]
    assert run.curve("total/late") == [(2, 0), (3, 0), (4, 7)]  # the document's own where it is as new
    assert run.curve("test/accuracy") == [(2, 0.75)]
    assert [time for step, time, _ in run.records if step > 1] == [102.0, 102.5, 103.0, 104.0]


async def test_streams_that_break_off_are_read_from_the_start(tracked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaking(PlayedStreams):
        readers = 0

        def __init__(self, *args: Any) -> None:
            Breaking.readers += 1
            whole = [close(1, "a"), close(2, "a"), close(3, "a")]
            self._left = [[whole[0], whole[1], Unreachable("no answer")] if Breaking.readers == 1 else whole]

    monkeypatch.setattr(tracker, "StoredRounds", Breaking)
    run = RememberingRun()
    phase, _ = await tracked([[document([1])], [document([1, 2]), document([1, 2, 3], "Succeeded")]], run)
    assert (phase, Breaking.readers) == ("Succeeded", 2)
    assert run.rounds == [1, 2, 3]
    assert run.curve("edge/a/counted") == [(1, 1), (2, 2), (3, 3)]
    assert len(run.opened) == 1  # no write has failed


def test_a_run_is_told_what_the_job_was_given() -> None:
    facts = facts_of(document([]))
    assert (facts.name, facts.series, facts.model) == ("digits", "u1", "net")
    assert facts.parameters == {"algorithm": "FedAvg", "rounds": "9", "script": "train.py", "training.lr": "0.1"}
