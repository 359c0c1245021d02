"""Admission on a node: by what workers ask and the node has, higher priorities first; each that waits says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.payloads import EvaluateTask, InferTask, ScriptSpec, TrainTask, WorkerAsk, WorkerTask
from heliograph.edge_agent.admission import UNKNOWN, Capacity
from heliograph.edge_agent.code_roots import CodeRoot
from heliograph.edge_agent.reconcile import Assign, Evict, Hold, Hurry, Launch, Running, State, Stop, decide

GI = 1 << 30
NODE = Capacity(8 * GI, ("0", "1"))


@pytest.fixture
def roots(tmp_path: Path) -> tuple[CodeRoot, ...]:
    (tmp_path / "train.py").write_text("")
    return (CodeRoot.parse(str(tmp_path)),)


def _task(job: str, memory: float = 0, gpus: int = 0, priority: int = 0, **changes: Any) -> TrainTask:
    ask = WorkerAsk(memory=int(memory * GI), gpus=gpus, priority=priority, since=changes.pop("since", ""))
    fields = {"worker": f"{job}-w", "job": job, "job_uid": f"uid-{job}", "round": 1,
              "script": ScriptSpec(boot_file="train.py"), "asks": ask if memory or gpus else None}  # fmt: skip
    return TrainTask(**(fields | changes))


def _runs(task: WorkerTask, state: State = "ready", gpus: tuple[str, ...] = (), hurried: bool = False) -> Running:
    assigned = task.model_copy(update={"asks": None})
    return Running(task.worker, task.job_uid, state, assigned, task, hurried=hurried, gpus=gpus)


class Node:
    """A node whose decisions are carried out at once, as far as processes go."""

    def __init__(self, roots: tuple[CodeRoot, ...], capacity: Capacity = NODE) -> None:
        self._roots = roots
        self._capacity = capacity
        self.running: dict[str, Running] = {}

    def decide(self, *tasks: WorkerTask) -> list[Any]:
        return decide(tasks, self.running, {}, set(), self._roots, capacity=self._capacity)

    def settle(self, *tasks: WorkerTask) -> dict[str, str]:
        """Carry out decisions until one changes nothing; return the reason of each job that waits."""
        for _ in range(20):
            actions = self.decide(*tasks)
            effects = [each for each in actions if not isinstance(each, Hold)]
            if not effects:
                return {each.task.job: each.reason for each in actions if isinstance(each, Hold)}
            for each in effects:
                if isinstance(each, Launch):
                    self.running[each.task.worker] = _runs(each.task, gpus=each.gpus)
                elif isinstance(each, (Evict, Stop)):
                    del self.running[each.worker]
                else:
                    raise AssertionError(each)
        raise AssertionError(f"never settles: {effects}")

    @property
    def jobs(self) -> set[str]:
        return {each.task.job for each in self.running.values() if each.task is not None}


def test_two_jobs_run_side_by_side_while_there_is_room_and_each_has_its_own_gpu(roots: Any) -> None:
    node = Node(roots)
    assert node.settle(_task("a", 4, 1), _task("b", 4, 1)) == {}
    assert sorted(each.gpus for each in node.running.values()) == [("0",), ("1",)]


def test_the_one_that_does_not_fit_waits_and_says_for_what_and_who_has_it(roots: Any) -> None:
    node = Node(roots)
    waiting = node.settle(_task("a", 6, 2, since="2026-01-01"), _task("b", 4, 1, since="2026-01-02"),
                          _task("c", 1, since="2026-01-03"))  # fmt: skip
    assert waiting["b"] == ("waits for 4Gi of memory and 1 GPU: 6Gi of 8Gi and 2 of 2 taken, by a "
                            "(priority 0)")  # fmt: skip
    assert node.jobs == {"a"}
    assert waiting["c"].endswith("b comes first")  # nobody overtakes one that waits for the same
    hold = next(each for each in node.decide(_task("a", 6, 2), _task("b", 4, 1)) if isinstance(each, Hold))
    assert (hold.queued, hold.forbidden) == (True, False)


def test_whoever_asks_for_nothing_of_what_is_scarce_starts(roots: Any) -> None:
    node = Node(roots)
    waiting = node.settle(_task("a", 0, 2), _task("b", 0, 1), _task("c", 1), _task("plain"))
    assert (node.jobs, set(waiting)) == ({"a", "c", "plain"}, {"b"})


def test_an_earlier_job_comes_first_among_equals_and_a_higher_priority_before_all(roots: Any) -> None:
    tasks = [_task("a", 8, since="2026-03-01"), _task("b", 8, since="2026-01-01"), _task("c", 8, priority=1)]
    node = Node(roots)
    node.settle(*tasks)
    assert node.jobs == {"c"}
    node.settle(*tasks[:2])
    assert node.jobs == {"b"}


def test_a_higher_priority_takes_the_place_of_lower_ones_and_no_more_than_it_needs(roots: Any) -> None:
    low = [_task("l1", 2, 1, since="2026-01-01"), _task("l2", 2, 1, since="2026-01-02"), _task("l3", 2)]
    node = Node(roots)
    assert node.settle(*low) == {}
    waiting = node.settle(*low, _task("high", 2, 1, priority=5))
    assert node.jobs == {"l1", "l3", "high"}  # of equal ones the last comer goes
    assert waiting == {"l2": "waits for 1 GPU: 2 of 2 taken, by high (priority 5), l1 (priority 0)"}
    node.settle(*low)
    assert node.jobs == {"l1", "l2", "l3"}


def test_nobody_is_evicted_where_it_would_not_make_enough_room(roots: Any) -> None:
    node = Node(roots)
    node.settle(_task("l", 1, 1), _task("same", 1, 1, priority=5))
    waiting = node.settle(_task("l", 1, 1), _task("same", 1, 1, priority=5), _task("high", 1, 2, priority=5))
    assert node.jobs == {"l", "same"}
    assert "waits for 2 GPUs" in waiting["high"]


def test_an_idle_worker_gives_way_to_one_of_its_priority_that_has_work(roots: Any) -> None:
    idle = _task("idle", 6, active=False)
    node = Node(roots)
    node.running["idle-w"] = _runs(idle)
    assert set(node.settle(idle, _task("busy", 4))) == {"idle"}
    assert node.jobs == {"busy"}
    waiting = node.settle(_task("idle", 6), _task("busy", 4))
    assert set(waiting) == {"idle"}
    low = _task("low", 8, priority=-1)
    node.running = {"idle-w": _runs(idle)}
    assert set(node.settle(idle, low)) == {"low"}  # a higher priority keeps its worker warm


def test_what_the_node_never_has_is_refused_at_once(roots: Any) -> None:
    for task, words in ((_task("a", 9), "it asks for 9Gi of memory, and this node has 8Gi"),
                        (_task("a", 0, 3), "it asks for 3 GPUs, and this node has 2")):  # fmt: skip
        (hold,) = Node(roots).decide(task)
        assert (hold.reason, hold.forbidden, hold.queued) == (f"{words}: it can never start here", True, False)
    (hold,) = Node(roots, Capacity(8 * GI, ())).decide(_task("a", 0, 1))
    assert "this node has none" in hold.reason


def test_a_node_that_knows_nothing_of_itself_bounds_nothing(roots: Any) -> None:
    assert Node(roots, UNKNOWN).settle(_task("a", 99, 9), _task("b", 99, 9)) == {}


def test_workers_that_end_make_room_and_are_hurried_for_a_higher_priority(roots: Any) -> None:
    node, old = Node(roots), _task("old", 8)
    node.running["old-w"] = _runs(old, "stopping")
    assert [*map(type, node.decide(_task("new", 8)))] == [Hold]  # its job has ended: its script may finish
    actions = node.decide(_task("new", 8, priority=1))
    assert [type(each) for each in actions] == [Hurry, Hold]
    assert actions[0] == Hurry("old-w")
    node.running["old-w"] = _runs(old, "stopping", hurried=True)
    assert [*map(type, node.decide(_task("new", 8, priority=1)))] == [Hold]


@pytest.mark.parametrize("state", ["failed", "finished"])
def test_a_worker_without_a_process_holds_nothing_and_queues_again(roots: Any, state: State) -> None:
    node, ended = Node(roots), _task("ended", 8, priority=1)
    node.running["ended-w"] = _runs(ended, state)
    again = _task("ended", 8, priority=1, round=2)
    assert [type(each) for each in node.decide(again, _task("other", 8))] == [Launch, Hold]


def test_a_backing_off_worker_keeps_its_place(roots: Any) -> None:
    node, failing = Node(roots), _task("failing", 8)
    node.running["failing-w"] = _runs(failing, "backing-off")
    assert set(node.settle(failing, _task("other", 8))) == {"other"}


def test_a_changed_priority_reaches_no_worker_and_counts_at_once(roots: Any) -> None:
    node, task = Node(roots), _task("a", 8)
    node.settle(task)
    assert node.decide(_task("a", 8, priority=9)) == []  # it works on
    assert set(node.settle(_task("a", 8, priority=9), _task("b", 8, priority=5))) == {"b"}
    assert node.jobs == {"a"}


def test_a_worker_is_assigned_its_task_without_what_it_asks(roots: Any) -> None:
    task = _task("a", 8)
    fresh = {"a-w": Running("a-w", "uid-a", "ready")}
    assert decide([task], fresh, {}, set(), roots, capacity=NODE) == [Assign(task)]
    assert decide([task], {"a-w": _runs(task)}, {}, set(), roots, capacity=NODE) == []


def test_a_worker_that_could_not_start_says_so_before_a_round_asks_it(roots: Any) -> None:
    node, later = Node(roots), _task("later", 8, active=False)
    assert node.settle(_task("runs", 6), later) == {"later": "waits for 8Gi of memory: 6Gi of 8Gi taken, by runs "
                                                             "(priority 0)"}  # fmt: skip
    assert node.settle(_task("runs", 6), _task("later", 2, active=False)) == {}
    assert node.settle(_task("runs", 6), _task("later", 8, priority=1, active=False)) == {}  # it would take its place
    assert node.jobs == {"runs"}
    (hold,) = Node(roots).decide(_task("later", 9, active=False))
    assert hold.forbidden


def test_an_evaluation_that_waits_for_its_model_takes_nobodys_place(roots: Any) -> None:
    warm = EvaluateTask(worker="e-w", job="e", job_uid="uid-e", round=0, active=False, asks=WorkerAsk(memory=8 * GI),
                        script=ScriptSpec(boot_file="train.py"))  # fmt: skip
    node, idle = Node(roots), _task("idle", 8, active=False)
    node.running["idle-w"] = _runs(idle)
    assert set(node.settle(idle, warm)) == {"e"}
    assert node.jobs == {"idle"}
    assert node.settle(idle, warm.model_copy(update={"active": True})) == {
        "idle": "waits for 8Gi of memory: 8Gi of 8Gi taken, by e (priority 0)"
    }


def test_a_service_gives_way_to_a_higher_priority_alone(roots: Any) -> None:
    service = InferTask(worker="s-w", job="s", job_uid="uid-s", generation=1, script=ScriptSpec(boot_file="train.py"),
                        asks=WorkerAsk(gpus=2))  # fmt: skip
    node = Node(roots)
    node.settle(service)
    assert set(node.settle(service, _task("same", 0, 1))) == {"same"}
    assert set(node.settle(service, _task("high", 0, 1, priority=1))) == {"s"}
