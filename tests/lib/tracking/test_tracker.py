"""Following a job by its documents alone, as a login does that may read no streams: each round once, none missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.world import World
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


def test_a_run_is_told_what_the_job_was_given() -> None:
    facts = facts_of(document([]))
    assert (facts.name, facts.uid, facts.model) == ("digits", "u1", "net")
    assert facts.parameters == {"algorithm": "FedAvg", "rounds": "9", "script": "train.py", "training.lr": "0.1"}
