"""The agent's decision: it launches missing workers and stops obsolete ones; repeated, it has no action."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.payloads import (
    BigModelTask,
    InferenceSpec,
    InferTask,
    LearnTask,
    PackageSpec,
    ScriptSpec,
    TrainTask,
)
from heliograph.bus.contract.resources import DatasetIndex, WeightsRef
from heliograph.edge_agent.code_roots import Code, CodeRoot
from heliograph.edge_agent.package_allowance import Forbidden
from heliograph.edge_agent.reconcile import (
    Assign,
    Fetch,
    FetchPackage,
    Hold,
    Hurry,
    Launch,
    PackageState,
    Running,
    State,
    Stop,
    decide,
)

BLOB = WeightsRef(digest="a" * 64, size=10**6, bucket="models")


@pytest.fixture
def roots(tmp_path: Path) -> tuple[CodeRoot, ...]:
    (tmp_path / "train.py").write_text("")
    return (CodeRoot.parse(str(tmp_path)),)


def _task(**changes: Any) -> TrainTask:
    fields = {"worker": "job-w", "job": "job", "job_uid": "u", "round": 1,
              "script": ScriptSpec(boot_file="train.py"), "dataset": "data"}  # fmt: skip
    return TrainTask(**(fields | changes))


def _service(role: type[InferTask | BigModelTask] = InferTask, **changes: Any) -> InferTask | BigModelTask:
    fields = {"worker": "job-w", "job": "job", "job_uid": "u", "generation": 1,
              "script": ScriptSpec(boot_file="train.py")}  # fmt: skip
    return role(**(fields | changes))


DATA = {"data": DatasetIndex(name="data", samples=3)}


def test_a_wanted_worker_is_launched_then_assigned_then_left_alone(roots: Any) -> None:
    task = _task()
    assert decide([task], {}, DATA, set(), roots) == [Launch(task)]
    starting = {"job-w": Running("job-w", "u", "starting")}
    assert decide([task], starting, DATA, set(), roots) == []
    ready = {"job-w": Running("job-w", "u", "ready")}
    assert decide([task], ready, DATA, set(), roots) == [Assign(task)]
    assert decide([task], {"job-w": Running("job-w", "u", "ready", task)}, DATA, set(), roots) == []


def test_a_model_is_fetched_before_it_is_assigned(roots: Any) -> None:
    task = _task(model=BLOB)
    ready = {"job-w": Running("job-w", "u", "ready")}
    assert decide([task], ready, DATA, set(), roots) == [Fetch(BLOB)]
    assert decide([task], ready, DATA, {BLOB.digest}, roots) == [Assign(task)]


def test_an_unwanted_worker_is_stopped_once(roots: Any) -> None:
    old = {"old": Running("old", "u", "ready")}
    assert decide([], old, DATA, set(), roots) == [Stop("old")]
    assert decide([], {"old": Running("old", "u", "stopping")}, DATA, set(), roots) == []


def test_another_job_of_the_same_name_gets_a_worker_of_its_own(roots: Any) -> None:
    task = _task(job_uid="new")
    assert decide([task], {"job-w": Running("job-w", "u", "ready")}, DATA, set(), roots) == [Stop("job-w")]


@pytest.mark.parametrize(
    ("changes", "reason", "forbidden"),
    [
        ({"script": None}, "names no script", True),
        ({"script": ScriptSpec(boot_file="/etc/passwd")}, "--code root", True),
        ({"script": ScriptSpec(boot_file="../up.py")}, "--code root", True),
        ({"script": ScriptSpec(boot_file="absent.py")}, "not on this node", False),
        ({"script": ScriptSpec(boot_file="a\0b.py")}, "--code root", True),
        ({"script": ScriptSpec(boot_file="a" * 1000)}, "--code root", True),
        ({"script": ScriptSpec(boot_file="train.py", directory="/etc")}, "--code root of script train.py", True),
        ({"script": ScriptSpec(boot_file="train.py", directory="..")}, "--code root of script train.py", True),
        ({"script": ScriptSpec(boot_file="train.py", directory="../../models/a")}, "--code root of script", True),
        ({"script": ScriptSpec(boot_file="train.py", directory="absent")}, "directory absent is not on", False),
        ({"script": ScriptSpec(boot_file="train.py", directory="train.py")}, "directory train.py is not on", False),
        ({"dataset": "other"}, "data set other is not on this node", False),
    ],
)
def test_a_task_that_cannot_run_has_a_reason(roots: Any, changes: Any, reason: str, forbidden: bool) -> None:
    (hold,) = decide([_task(**changes)], {}, DATA, set(), roots)
    assert isinstance(hold, Hold)
    assert reason in hold.reason
    assert hold.forbidden is forbidden


def test_a_job_whose_data_set_has_gone_waits_and_goes_on_once_it_is_back(roots: Any) -> None:
    running = {"job-w": Running("job-w", "u", "ready", _task(round=1), _task(round=1))}
    gone = {"data": DatasetIndex(name="data", error="/data/x.csv does not exist on this node any more")}
    (hold,) = decide([_task(round=2)], running, gone, set(), roots)
    assert isinstance(hold, Hold)  # its worker is neither stopped nor asked
    assert (hold.reason, hold.forbidden) == (f"data set data: {gone['data'].error}", False)
    assert decide([_task(round=2)], running, DATA, set(), roots) == [Assign(_task(round=2))]


NEWER = WeightsRef(digest="b" * 64, size=10**6, bucket="models")


OWN = WeightsRef(digest="c" * 64, size=10**6, bucket="models")


def test_the_model_and_the_tensors_beside_it_are_fetched_first(roots: Any) -> None:
    ready = {"job-w": Running("job-w", "u", "ready")}
    task = _task(model=BLOB, down=NEWER)
    assert decide([task], ready, DATA, {BLOB.digest}, roots) == [Fetch(NEWER)]
    assert decide([task], ready, DATA, {BLOB.digest, NEWER.digest}, roots) == [Assign(task)]
    own = _task(model=BLOB, down=NEWER, personal=OWN)  # the edge trains its own model instead of the global one
    assert decide([own], ready, DATA, set(), roots) == [Fetch(OWN), Fetch(NEWER)]
    assert decide([own], ready, DATA, {OWN.digest, NEWER.digest}, roots) == [Assign(own)]


@pytest.mark.parametrize("role", [InferTask, BigModelTask])
def test_a_running_service_is_assigned_a_new_rule(roots: Any, role: type[InferTask | BigModelTask]) -> None:
    before = _service(role)
    after = before.model_copy(update={"inference": InferenceSpec(rule="margin")})
    running = {"job-w": Running("job-w", "u", "ready", before, before)}
    assert decide([after], running, {}, set(), roots) == [Assign(after)]


def test_a_service_with_another_script_is_launched_anew_once_it_can_run(roots: Any, tmp_path: Path) -> None:
    before = _service(model=BLOB)
    after = _service(model=NEWER, generation=2)
    running = {"job-w": Running("job-w", "u", "ready", before, before)}
    assert decide([after], running, {}, {BLOB.digest}, roots) == [Fetch(NEWER)]  # the old script goes on
    assert decide([after], running, {}, {NEWER.digest}, roots) == [Stop("job-w")]
    stopping = {"job-w": Running("job-w", "u", "stopping", before, before)}
    assert decide([after], stopping, {}, {NEWER.digest}, roots) == []
    assert decide([after], {}, {}, {NEWER.digest}, roots) == [Launch(after)]
    absent = after.model_copy(update={"script": ScriptSpec(boot_file="absent.py")})
    (hold,) = decide([absent], running, {}, {NEWER.digest}, roots)
    assert isinstance(hold, Hold)


def test_a_service_that_is_started_again_goes_on_with_its_model_until_the_new_one_is_there(roots: Any) -> None:
    before, after = _service(model=BLOB), _service(model=NEWER)
    again = {"job-w": Running("job-w", "u", "ready", None, before)}
    assert decide([after], again, {}, {BLOB.digest}, roots) == [Fetch(NEWER), Assign(before)]
    assert decide([after], again, {}, set(), roots) == [Fetch(NEWER)]
    handed = {"job-w": Running("job-w", "u", "ready", before, before)}
    assert decide([after], handed, {}, {BLOB.digest}, roots) == [Fetch(NEWER)]
    assert decide([after], handed, {}, {BLOB.digest, NEWER.digest}, roots) == [Assign(after)]


@pytest.mark.parametrize("role", [InferTask, BigModelTask])
@pytest.mark.parametrize(("file", "forbidden"), [("/etc/passwd", True), ("../up.py", True), ("absent.py", False)])
def test_a_services_script_is_checked_like_a_jobs(
    roots: Any, role: type[InferTask | BigModelTask], file: str, forbidden: bool
) -> None:
    (hold,) = decide([_service(role, script=ScriptSpec(boot_file=file))], {}, {}, set(), roots)
    assert isinstance(hold, Hold)
    assert hold.forbidden is forbidden


def _ended(state: State, task: TrainTask, **changes: Any) -> dict[str, Running]:
    return {"job-w": Running("job-w", "u", state, task=task, **changes)}


def test_a_script_that_left_its_loop_is_started_again_when_it_is_asked_in_another_round(roots: Any) -> None:
    for now in (_task(), _task(active=False), _task(round=2, active=False)):
        assert decide([now], _ended("finished", _task(), ended_in=1), DATA, set(), roots) == []
    asked = _task(round=2)
    for known in (_task(), asked):  # it may have been handed the next round before it ended
        assert decide([asked], _ended("finished", known, ended_in=1), DATA, set(), roots) == [Launch(asked)]


def test_a_failed_worker_is_not_started_again_for_its_task(roots: Any) -> None:
    for final in (True, False):
        failed = _ended("failed", _task(model=BLOB), ended_in=1, final=final)
        assert decide([_task(model=BLOB)], failed, DATA, set(), roots) == []
    again = _task(round=2)
    assert decide([again], _ended("failed", _task(), ended_in=1), DATA, set(), roots) == [Launch(again)]
    assert decide([again], _ended("failed", _task(), ended_in=1, final=True), DATA, set(), roots) == []


@pytest.mark.parametrize(
    "changes",
    [{"script": ScriptSpec(boot_file="train.py", arguments=["--lr", "0.1"])}, {"parameters": {"lr": 0.1}},
     {"dataset": "other"}],
)  # fmt: skip
def test_a_final_failure_is_started_again_when_it_has_another_spec(roots: Any, changes: dict[str, Any]) -> None:
    other = _task(**changes)
    data = DATA | {"other": DatasetIndex(name="other", samples=3)}
    assert decide([other], _ended("failed", _task(), ended_in=1, final=True), data, set(), roots) == [Launch(other)]


def test_a_final_failure_is_started_again_in_a_round_with_other_samples(roots: Any) -> None:
    """As a job of incremental learning has: what the script could not learn may be among them no more."""
    before, after = (
        LearnTask(worker="job-w", job="job", job_uid="u", round=round, script=ScriptSpec(boot_file="train.py"))
        for round in (1, 2)
    )
    failed = {"job-w": Running("job-w", "u", "failed", task=before, ended_in=1, final=True)}
    assert decide([before], failed, DATA, set(), roots) == []
    assert decide([after], failed, DATA, set(), roots) == [Launch(after)]


def test_another_attempt_of_a_worker_of_the_same_name_begins_once_the_one_that_hangs_has_been_ended(
    roots: Any,
) -> None:
    """As a worker in a pod of a node that decides by itself has: one pod serves all attempts."""
    first, second = (
        LearnTask(worker="job-w", job="job", job_uid="u", round=1, attempt=attempt,
                  script=ScriptSpec(boot_file="train.py"))
        for attempt in (1, 2)
    )  # fmt: skip
    ready = {"job-w": Running("job-w", "u", "ready", first, first)}
    assert decide([second], ready, DATA, set(), roots) == [Stop("job-w")]
    assert decide([second], _ended("stopping", first), DATA, set(), roots) == [Hurry("job-w")]
    assert decide([second], _ended("stopping", first, hurried=True), DATA, set(), roots) == []
    assert decide([second], {}, DATA, set(), roots) == [Launch(second)]


def test_an_ended_worker_of_an_earlier_job_makes_room(roots: Any) -> None:
    task = _task(job_uid="new")
    assert decide([task], _ended("failed", _task(), final=True), DATA, set(), roots) == [Stop("job-w")]
    assert decide([task], _ended("stopping", _task()), DATA, set(), roots) == [Hurry("job-w")]
    assert decide([task], _ended("stopping", _task(), hurried=True), DATA, set(), roots) == []


def test_a_relative_script_is_looked_for_below_every_root(roots: Any, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "other.py").write_text("")
    two = (*roots, CodeRoot.parse(str(tmp_path / "b")))
    task = _task(script=ScriptSpec(boot_file="other.py"))
    assert decide([task], {}, DATA, set(), two) == [Launch(task)]
    missing = _task(script=ScriptSpec(boot_file="nowhere.py"))
    where = f"script nowhere.py is not on this node: looked for below {tmp_path}, {tmp_path / 'b'}"
    assert decide([missing], {}, DATA, set(), two) == [Hold(missing, where)]


@pytest.mark.parametrize(
    ("named", "reason", "forbidden"),
    [("/etc", "working directory /etc does not lie under a --code root of this agent", True),
     ("..", "working directory .. does not lie under", True), ("gone", "directory gone is not on this node", False)],
)  # fmt: skip
def test_a_working_directory_lies_below_a_root(roots: Any, named: str, reason: str, forbidden: bool) -> None:
    [hold] = decide([_task(script=ScriptSpec(boot_file="train.py", working_directory=named))], {}, DATA, set(), roots)
    assert isinstance(hold, Hold)
    assert (hold.reason.startswith(reason), hold.forbidden) == (True, forbidden)


PACKAGE = PackageSpec(algorithm="digits", digest="d" * 64, size=100)
HERE = PackageState(Code(Path("/p/train.py"), Path("/p"), Path("/p")))
BARRED = PackageState(barred=Forbidden("not allowed on this node"))


def _packaged(**changes: Any) -> TrainTask:
    return _task(script=None, package=PACKAGE, **changes)


def test_a_package_is_fetched_before_its_worker_is_launched(roots: Any) -> None:
    task = _packaged()
    assert decide([task], {}, DATA, set(), roots, {"job-w": PackageState()}) == [FetchPackage(PACKAGE)]
    assert decide([task], {}, DATA, set(), roots, {"job-w": HERE}) == [Launch(task)]
    ready = {"job-w": Running("job-w", "u", "ready")}
    assert decide([task], ready, DATA, set(), roots, {"job-w": HERE}) == [Assign(task)]
    idle = _packaged(active=False)  # it comes ahead of the round
    assert decide([idle], {}, DATA, set(), roots, {"job-w": PackageState()}) == [FetchPackage(PACKAGE)]


def test_a_package_that_cannot_be_had_is_told_and_tried_again(roots: Any) -> None:
    unreachable = PackageState(problem="package dddddddddddd: not in bucket; trying again")
    hold, fetch = decide([_packaged()], {}, DATA, set(), roots, {"job-w": unreachable})
    assert (hold, fetch) == (Hold(_packaged(), unreachable.problem), FetchPackage(PACKAGE))
    refused = PackageState(problem="package dddddddddddd: no zip", refused=True)
    assert decide([_packaged()], {}, DATA, set(), roots, {"job-w": refused}) == [
        Hold(_packaged(), refused.problem, forbidden=True)
    ]


def test_a_package_that_is_not_allowed_is_not_even_fetched(roots: Any) -> None:
    task = _packaged()
    assert decide([task], {}, DATA, set(), roots, {"job-w": BARRED}) == [Hold(task, "not allowed on this node")]
    forged = PackageState(barred=Forbidden("bad signature", final=True))
    assert decide([task], {}, DATA, set(), roots, {"job-w": forged}) == [Hold(task, "bad signature", forbidden=True)]


@pytest.mark.parametrize("state", ["starting", "ready", "backing-off", "failed"])
def test_a_worker_whose_package_is_no_longer_allowed_is_stopped(roots: Any, state: State) -> None:
    task = _packaged()
    runs = {"job-w": Running("job-w", "u", state, task, task)}
    assert decide([task], runs, DATA, set(), roots, {"job-w": BARRED}) == [
        Stop("job-w"), Hold(task, "not allowed on this node")
    ]  # fmt: skip
    stopping = {"job-w": Running("job-w", "u", "stopping", task, task)}
    assert decide([task], stopping, DATA, set(), roots, {"job-w": BARRED}) == [Hold(task, "not allowed on this node")]
    of_another_job = {"job-w": Running("job-w", "before", state, task, task)}
    stop, hold = decide([task], of_another_job, DATA, set(), roots, {"job-w": BARRED})
    assert (stop, hold) == (Stop("job-w"), Hold(task, "not allowed on this node"))


def test_a_worker_that_failed_for_good_begins_again_with_another_package(roots: Any) -> None:
    before = _packaged()
    failed = {"job-w": Running("job-w", "u", "failed", None, before, 1, final=True)}
    assert decide([before], failed, DATA, set(), roots, {"job-w": HERE}) == []
    after = before.model_copy(update={"package": PACKAGE.model_copy(update={"digest": "e" * 64})})
    assert decide([after], failed, DATA, set(), roots, {"job-w": HERE}) == [Launch(after)]
