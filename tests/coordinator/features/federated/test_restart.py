"""A job that was stopped or has failed is started again: it goes on after its last counted round."""

from __future__ import annotations

from heliograph.bus.contract.payloads import AggregateTask, RoundState
from heliograph.bus.contract.resources import FederatedTask, ModelVersion
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated import steps
from heliograph.coordinator.features.federated.desired_tasks import desired_tasks
from heliograph.coordinator.features.federated.drawing import draw
from heliograph.coordinator.features.federated.resuming import restart
from tests.coordinator.features.federated.test_state_machine import ALL, EDGES, NOW, _closed, _running, _weights

LATER = "2026-01-01T01:00:00.000000Z"


def _stopped(rounds: int = 9, closed: int = 1) -> FederatedTask:
    task = _running(rounds=rounds, evaluationWorker={"dataset": {"name": "test"}})
    for number in range(1, closed + 1):
        task = federated.close(task, _closed(number, *EDGES, model=number), ALL, NOW)
    return steps.stop(task, NOW)


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
    for task in (_stopped(closed=2), _stopped(closed=0), steps.stop(restart(_stopped(), "a", []), NOW)):
        pending = restart(task, "again", _kept(task)[:1] if task.status.model is not None else [])
        assert (pending.status.model, pending.status.round, pending.status.rounds) == (None, 0, [])
        assert federated.begin(pending, ALL, LATER, 1).status.step == "initialising"


def test_a_restart_that_is_stopped_before_it_begins_loses_nothing() -> None:
    stopped = _stopped(closed=2)
    again = steps.stop(restart(stopped, "again", _kept(stopped)), NOW)
    third = federated.begin(restart(again, "third", _kept(stopped)), ALL, LATER, 1)
    assert (third.status.round, third.status.model) == (3, _weights(2))


def test_a_job_that_was_stopped_in_its_last_evaluation_is_evaluated() -> None:
    stopped = _stopped(rounds=2, closed=2)
    running = federated.begin(restart(stopped, "again", _kept(stopped)), ALL, LATER, 1)
    assert (running.status.phase, running.status.step, running.status.round) == ("Running", "evaluating", 2)


def _aggregation(task: FederatedTask) -> AggregateTask:
    found = desired_tasks(task, ALL)["cloud"][0]
    assert isinstance(found, AggregateTask)
    return found


def test_what_the_algorithm_has_learned_is_handed_to_the_first_round_that_goes_on() -> None:
    left = {"state": _weights(21), "down": _weights(22), "personal": {"edge-1": _weights(23)}}
    task = federated.close(_running(rounds=9), _closed(1, *EDGES, model=1, **left), ALL, NOW)
    assert _aggregation(task).resumed is None  # its own record of round 1 has it
    stopped = steps.stop(task, NOW)
    running = federated.begin(restart(stopped, "again", _kept(stopped)), ALL, LATER, 1)
    assert _aggregation(running).resumed == RoundState.model_validate(left)
    (training,) = desired_tasks(running, ALL)["edge-1"]
    assert (training.down, training.personal) == (_weights(22), _weights(23))  # type: ignore[attr-defined]
    again = steps.stop(running, NOW)  # before any round of it closes
    third = federated.begin(restart(again, "third", _kept(stopped)), ALL, LATER, 1)
    assert _aggregation(third).resumed == RoundState.model_validate(left)
    own = _closed(2, *EDGES, model=2, state=_weights(31)).model_copy(update={"job_uid": "third"})
    later = federated.close(third, own, ALL, LATER)
    assert (later.status.state, _aggregation(later).resumed) == (_weights(31), None)


def test_an_algorithm_that_keeps_arrays_on_edges_begins_anew_with_its_own_part() -> None:
    """Edges let go of theirs when a run ends: the sum of all parts on the server alone would be wrong for ever."""
    left = {"state": _weights(21), "down": _weights(22)}
    task = _running(rounds=9)
    task = task.model_copy(update={"status": task.status.model_copy(update={"counted_updates": {}})})
    stopped = steps.stop(federated.close(task, _closed(1, *EDGES, model=1, **left), ALL, NOW), NOW)
    assert set(stopped.status.counted_updates or {}) == set(EDGES)
    running = federated.begin(restart(stopped, "again", _kept(stopped)), ALL, LATER, 1)
    assert _aggregation(running).resumed is None
    (training,) = desired_tasks(running, ALL)["edge-1"]
    assert (training.down, training.counted) == (None, None)  # type: ignore[attr-defined]
    assert training.model == _weights(1)


def test_a_run_without_anything_beside_the_model_hands_nothing_over() -> None:
    stopped = _stopped(closed=2)
    running = federated.begin(restart(stopped, "again", _kept(stopped)), ALL, LATER, 1)
    assert _aggregation(running).resumed is None


def test_participants_are_drawn_as_in_one_run() -> None:
    task = _running(rounds=99, participants={"count": 1})
    drawn = [draw(task, round, ALL) for round in range(1, 40)]
    for number in range(1, 4):
        task = federated.close(task, _closed(number, *drawn[number - 1], model=number), ALL, NOW)
    for uid in ("again", "third"):
        stopped = steps.stop(task, NOW)
        task = federated.begin(restart(stopped, uid, _kept(stopped)), ALL, LATER, 1)
        assert (task.status.first_run, task.status.round) == ("uid", 4)
        assert [draw(task, round, ALL) for round in range(1, 40)] == drawn


def test_patience_bytes_and_the_best_model_count_on() -> None:
    stop = {"plateau": {"metric": "loss", "mode": "min", "patience": 3}, "uplinkBytes": 1000}
    task = _running(rounds=99, stop=stop)
    for number, loss in enumerate((0.5, 0.6), 1):
        closed = _closed(number, *EDGES, model=number, metrics={"loss": loss}, uplink_bytes=100)
        task = federated.close(task, closed, ALL, NOW)
    stopped = steps.stop(task, NOW)
    best = ModelVersion(version=3, weights=_weights(1), job="uid", round=1)
    again = federated.begin(restart(stopped, "again", [*_kept(stopped), best]), ALL, LATER, 1)
    assert (again.status.plateau, again.status.best) == (task.status.plateau, task.status.best)
    assert (again.status.uplink_bytes, again.status.start_time) == (200, LATER)
    forgotten = restart(stopped, "again", _kept(stopped))
    assert (forgotten.status.best, forgotten.status.plateau) == (None, task.status.plateau)
    for number in (3, 4):
        closed = _closed(number, *EDGES, model=number, metrics={"loss": 0.7}).model_copy(update={"job_uid": "again"})
        again = federated.close(again, closed, ALL, LATER)
    assert again.status.phase == "Succeeded"
    assert again.status.stopped_by is not None and again.status.stopped_by.reason == "NoImprovement"


def test_what_stopped_an_earlier_run_is_forgotten() -> None:
    task = _running(rounds=9, stop={"wallTimeSeconds": 60})
    task = federated.close(task, _closed(1, *EDGES, model=1), ALL, NOW)
    failed = steps.fail(task, "WorkersFailed", "boom", NOW)
    running = federated.begin(restart(failed, "again", _kept(failed)), ALL, LATER, 1)
    assert (running.status.stopped_by, running.status.conditions[-1].type) == (None, "Ready")
    assert federated.observe(running, ALL, LATER).status.phase == "Running"  # the time of another run does not count
