"""A job that was stopped or has failed is started again: it goes on after its last counted round."""

from __future__ import annotations

from heliograph.bus.contract.resources import FederatedTask, ModelVersion
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated.resuming import restart
from tests.coordinator.features.federated.test_state_machine import ALL, EDGES, NOW, _closed, _running, _weights

LATER = "2026-01-01T01:00:00.000000Z"


def _stopped(rounds: int = 9, closed: int = 1) -> FederatedTask:
    task = _running(rounds=rounds, evaluationWorker={"dataset": {"name": "test"}})
    for number in range(1, closed + 1):
        task = federated.close(task, _closed(number, *EDGES, model=number), ALL, NOW)
    return federated.stop(task, NOW)


def _kept(task: FederatedTask) -> list[ModelVersion]:
    other = ModelVersion(version=1, weights=_weights(8), job="other", round=1)
    assert task.status.model is not None
    mine = ModelVersion(version=2, weights=task.status.model, job="uid", round=task.status.model_round)
    return [other, mine]


def test_a_job_goes_on_after_its_last_counted_round_as_a_run_of_its_own() -> None:
    stopped = _stopped(closed=2)
    pending = restart(stopped, "again", _kept(stopped))
    assert (pending.metadata.uid, pending.status.phase, pending.status.completion_time) == ("again", "Pending", "")
    assert (pending.status.conditions, pending.status.participants) == ([], [])
    running = federated.begin(pending, ALL, LATER, 40, 3)
    status = running.status
    assert (status.phase, status.step, status.round, status.start_time) == ("Running", "training", 3, LATER)
    assert (status.model, status.model_round, status.updates_from) == (_weights(2), 2, 40)
    assert [each.round for each in status.rounds] == [1, 2]
    assert federated.close(running, _closed(3, *EDGES, model=3), ALL, LATER) is running  # an update of the first run
    own = _closed(3, *EDGES, model=3).model_copy(update={"job_uid": "again"})
    assert federated.close(running, own, ALL, LATER).status.round == 4


def test_a_job_whose_model_nobody_keeps_begins_anew() -> None:
    for task in (_stopped(closed=2), _stopped(closed=0), federated.stop(restart(_stopped(), "a", []), NOW)):
        pending = restart(task, "again", _kept(task)[:1] if task.status.model is not None else [])
        assert (pending.status.model, pending.status.round, pending.status.rounds) == (None, 0, [])
        assert federated.begin(pending, ALL, LATER, 1).status.step == "initialising"


def test_a_restart_that_is_stopped_before_it_begins_loses_nothing() -> None:
    stopped = _stopped(closed=2)
    again = federated.stop(restart(stopped, "again", _kept(stopped)), NOW)
    third = federated.begin(restart(again, "third", _kept(stopped)), ALL, LATER, 1)
    assert (third.status.round, third.status.model) == (3, _weights(2))


def test_a_job_that_was_stopped_in_its_last_evaluation_is_evaluated() -> None:
    stopped = _stopped(rounds=2, closed=2)
    running = federated.begin(restart(stopped, "again", _kept(stopped)), ALL, LATER, 1)
    assert (running.status.phase, running.status.step, running.status.round) == ("Running", "evaluating", 2)
