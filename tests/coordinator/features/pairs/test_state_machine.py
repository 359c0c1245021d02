"""What becomes of a pair training job: step by step, with every kind of trouble, through a successor at each step."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heliograph.bus.contract.payloads import Generation, PairResult, PairTask, Report, WorkerReport
from heliograph.bus.contract.resources import (
    DatasetIndex,
    Metadata,
    PairFigures,
    PairTrainingJob,
    SelectionFigures,
    WeightsRef,
)
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.pairs import lineage, requirements
from heliograph.coordinator.features.pairs import state_machine as jobs
from heliograph.coordinator.features.pairs.tasks import pair_task, service_of, worker_of

NODE = "cloud"
STEPS = ("selecting", "training-cloud", "training-edge", "measuring")
PARTS: dict[str, Any] = {
    "edgeWorker": {"scriptBootFile": "serve.py"}, "cloudWorker": {"scriptBootFile": "serve.py"},
}  # fmt: skip


def _time(second: int) -> str:
    return f"2026-01-01T00:{second // 60:02}:{second % 60:02}.000000Z"


def _job(**spec: Any) -> PairTrainingJob:
    fields: dict[str, Any] = {
        "samples": {"name": "mine"}, "public": {"name": "public"}, "workerSpec": {"trainScriptBootFile": "pair.py"},
        "edge": {"model": {"name": "shallow"}}, "cloud": {"model": {"name": "deep"}}, **spec,
    }  # fmt: skip
    document = {"kind": "PairTrainingJob", "metadata": {"name": "digits", "uid": "u"}, "spec": fields}
    return PairTrainingJob.model_validate(document)


def _view(*names: str, version: str = "0.2.0", data: str = "v1", workers: tuple[WorkerReport, ...] = ()) -> View:
    indexes = [DatasetIndex(name=name, samples=10, version=f"{name}-{data}") for name in names]
    report = Report(edge=NODE, observed=Generation(), datasets=indexes, workers=list(workers), version=version)
    return View({NODE: EdgeView(NODE, True, report)})


def _ref(word: str) -> WeightsRef:
    return WeightsRef(digest=sha256(word.encode()).hexdigest(), size=9, bucket="models")


def _result(job: PairTrainingJob, **changes: Any) -> PairResult:
    """Return what the worker answers to the present step."""
    step = job.status.step
    made: dict[str, Any] = {"weights": _ref(step)} if step != "measuring" else {"figures": _figures()}
    if step == "selecting":
        made["selected"] = SelectionFigures(public=100, selected=40, nearest=0.1, farthest=0.5)
    fields = {"job": "digits", "job_uid": "u", "round": job.status.turn, "step": step, "edge": NODE, "num_samples": 50,
              **made}  # fmt: skip
    return PairResult(**{**fields, **changes})


def _figures(**changes: Any) -> PairFigures:
    joint = {"accuracy": 0.95, "offload": 0.2, "calibrationError": 0.05}
    return PairFigures.model_validate({
        "evaluation": "e" * 64, "tunedOn": 20, "measuredOn": 20, "edgeAccuracy": 0.8, "cloudAccuracy": 0.96,
        "edgeObjective": 0.79, "cloudObjective": 0.97, "before": {**joint, "offload": 0.9}, "after": joint,
        "temperature": 1.5, "parameters": [{"key": "value", "value": 0.7}], **changes,
    })  # fmt: skip


def _begun(**spec: Any) -> PairTrainingJob:
    job = _job(**spec)
    view = _view(*job.spec.datasets.values())
    assert list(requirements.missing(job, view)) == []
    return jobs.begun(job, requirements.uses(job, view), {}, 7, _time(0))


def _at(step: str, **spec: Any) -> PairTrainingJob:
    job = _begun(**spec)
    while job.status.step != step:
        job = jobs.taken(job, _result(job), _time(1))
    return job


def _read_again(job: PairTrainingJob) -> PairTrainingJob:
    """Return the job as the next coordinator reads it."""
    return PairTrainingJob.model_validate_json(job.model_dump_json(by_alias=True, exclude_none=True))


def _report(job: PairTrainingJob, state: str, **fields: Any) -> WorkerReport:
    fixed = {"worker": worker_of(job), "role": "pair", "job": "digits", "job_uid": "u", "round": job.status.turn}
    return WorkerReport(**{**fixed, "state": state, **fields})


def test_each_step_follows_from_the_result_of_the_one_before_and_a_successor_goes_on_at_each() -> None:
    job = _begun(heldOutSamples={"name": "test"})
    seen = []
    while job.status.step in STEPS:
        job = _read_again(job)
        task = pair_task(job, {}, None)
        assert isinstance(task, PairTask)
        held = [name for name in ("selection", "cloud", "edge") if getattr(task, name) is not None]
        seen.append((task.step, held))
        assert task.datasets == ("mine", "public", "test") and task.round == job.status.turn
        job = jobs.taken(job, _result(job), _time(5))
    assert seen == [("selecting", []), ("training-cloud", ["selection"]), ("training-edge", ["selection", "cloud"]),
                    ("measuring", ["cloud", "edge"])]  # fmt: skip
    assert job.status.step == "registering" and pair_task(job, {}, None) is None
    done = jobs.registered(_read_again(job), {"cloud": 3, "edge": 4}, _time(9))
    assert (done.status.phase, done.status.models["edge"].version, done.status.reason) == ("Succeeded", 4, "")
    assert "0.9500 correctly with 0.2000 offloaded" in done.status.conditions[-1].message


def test_a_version_says_all_that_it_was_made_of() -> None:
    job = _at("registering", heldOutSamples={"name": "test"})
    base = _ref("base")
    status = job.status.model_copy(update={"bases": {"edge": base}, "code": {"c" * 64: 1}})
    job = job.model_copy(update={"status": status})
    shallow, deep = lineage.version_of(job, "edge", _time(9)), lineage.version_of(job, "cloud", _time(9))
    assert (shallow.parent, shallow.teacher, deep.parent, deep.teacher) == (
        base.digest, deep.weights.digest, "", "",
    )  # fmt: skip
    assert shallow.job == "u" and shallow.round == 1 and shallow.code == {"c" * 64: 1}
    assert [(each.name, each.version) for each in shallow.datasets] == [("mine", "mine-v1"), ("public", "public-v1")]
    measured = shallow.evaluation_set
    assert measured is not None and (measured.name, measured.version, measured.samples) == ("test", "e" * 64, 20)
    assert shallow.metrics["recall"] == 0.79 and deep.metrics["precision"] == 0.97
    assert shallow.metrics["pair_accuracy"] == 0.95 and shallow.metrics["pair_offload"] == 0.2
    alone = _at("registering", distillation={"share": 0})
    assert lineage.version_of(alone, "edge", _time(9)).teacher == "", "the labels alone have taught it"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "changes",
    [{"round": 99}, {"round": 0}, {"job_uid": "another"}, {"step": "other"}, {"weights": None, "figures": None}],
)
def test_what_answers_something_else_changes_nothing(step: str, changes: dict[str, Any]) -> None:
    job = _at(step)
    if "step" in changes:
        changes = {"step": STEPS[STEPS.index(step) - 1]}
    assert jobs.taken(job, _result(job, **changes), _time(5)) is job


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["result", "again", "stale", "crash", "hang", "restart", "data"]), max_size=30))
def test_whatever_happens_each_step_is_taken_once_and_in_order(events: list[str]) -> None:
    """No result counts twice, none of an earlier turn ever counts, and no two workers have one name."""
    job, steps, last, names = _begun(attempts=2), ["selecting"], None, set[str]()
    for event in events:
        if job.status.phase == "Failed":
            job = jobs.resumed(jobs.started(job), _time(1))
        if job.status.step not in STEPS:
            break
        before, result = job, _result(job)
        if event == "result":
            job, last = jobs.taken(job, result, _time(1)), result
        elif event == "again" and last is not None:
            assert jobs.taken(job, last, _time(1)) is job
        elif event == "stale":
            assert jobs.taken(job, result.model_copy(update={"round": job.status.turn - 1}), _time(1)) is job
        elif event == "crash":
            job = jobs.with_troubles(job, [_report(job, "failed", final=True, detail="boom")], _time(1))
            assert job.status.phase == "Failed"
        elif event == "hang":
            job = jobs.stumbled(job, "it hangs", _time(1))
        elif event == "data" and job.status.step != "selecting":
            job = jobs.begun(jobs.abandoned(job), {}, {}, 9, _time(1))
        job = _read_again(job)
        if job.status.step != before.status.step:
            steps.append(job.status.step)
        if job.status.turn != before.status.turn:
            assert job.status.turn > before.status.turn
            if event in ("hang", "data"):
                assert worker_of(job) not in names and worker_of(job) != worker_of(before)
        names.add(worker_of(before))
    for one, other in pairwise(steps):
        assert other == "selecting" or (*STEPS, "registering").index(other) == (*STEPS, "registering").index(one) + 1


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("state", "fields", "words"),
    [
        ("failed", {"final": True, "detail": "ValueError: no such column"}, "ValueError: no such column"),
        ("backing-off", {"restarts": 3, "detail": "killed by signal 9"}, "killed by signal 9"),
        ("refused", {"detail": "script pair.py does not lie under a --code root"}, "--code root"),
        ("finished", {}, "left its loop over parts()"),
    ],
)
def test_a_script_that_crashes_at_any_step_fails_the_job_and_start_goes_on_there(
    step: str, state: str, fields: dict[str, Any], words: str
) -> None:
    job = _at(step)
    kept = job.status.selection, job.status.models
    job = jobs.with_troubles(job, [_report(job, state, **fields)], _time(5))
    assert job.status.phase == "Failed" and step in job.status.reason and words in job.status.reason
    assert any(each.type == "Trained" and each.status == "False" for each in job.status.conditions)
    again = jobs.resumed(_read_again(jobs.started(job)), _time(9))
    assert (again.status.phase, again.status.step, again.status.reason) == ("Running", step, "")
    assert (again.status.selection, again.status.models) == kept, "what was made before stays"
    assert worker_of(again) != worker_of(job) and again.status.turn > job.status.turn


@pytest.mark.parametrize("state", ["starting", "running"])
def test_a_worker_that_was_killed_is_started_by_its_agent_and_fails_nothing(state: str) -> None:
    job = _at("training-cloud")
    assert jobs.with_troubles(job, [_report(job, state)], _time(5)) is job
    assert jobs.with_troubles(job, [_report(job, "backing-off", restarts=2)], _time(5)) is job
    another = _report(job, "failed", final=True).model_copy(update={"worker": "digits-pair-again-1"})
    assert jobs.with_troubles(job, [another], _time(5)) is job, "a worker that was given up before"
    earlier = _report(job, "failed", final=True).model_copy(update={"round": job.status.turn - 1})
    assert jobs.with_troubles(job, [earlier], _time(5)) is job, "what failed in an earlier step"


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_hangs_is_begun_again_by_another_worker_and_then_fails(step: str) -> None:
    job, names, now = jobs.goes_on(_at(step, attempts=3, stepDeadlineSeconds=60), _time(1)), list[str](), 1
    while job.status.phase == "Running":
        names.append(worker_of(job))
        assert jobs.with_troubles(job, [_report(job, "running")], _time(now + 60)) is job
        now += 61
        job = jobs.with_troubles(job, [_report(job, "running")], _time(now))
    assert len(set(names)) == 3 and job.status.reason == f"{step}: it has not ended in 60 s"


def test_a_clock_that_is_set_back_delays_no_deadline_for_ever() -> None:
    job = _at("training-cloud", stepDeadlineSeconds=60)
    late = job.model_copy(update={"status": job.status.model_copy(update={"step_since": _time(3000)})})
    job = jobs.with_troubles(late, [], _time(10))
    assert job.status.step_since == _time(10)
    assert jobs.with_troubles(job, [], _time(71)).status.attempt == 2


def test_a_worker_that_waits_for_its_node_does_not_hang_and_is_told_of() -> None:
    job = _at("training-cloud", stepDeadlineSeconds=60)
    job = jobs.with_troubles(job, [_report(job, "waiting", detail="another worker has the GPU")], _time(500))
    assert job.status.attempt == 1 and job.status.conditions[-1].message == "another worker has the GPU"
    job = jobs.with_troubles(job, [_report(job, "running")], _time(30))
    assert job.status.conditions[-1].status == "True"


@pytest.mark.parametrize(
    ("figures", "spec", "words"),
    [
        ({"against": ["metric loss is nan"]}, {}, "metric loss is nan"),
        ({}, {"evaluation": {"leastAccuracy": 0.96}}, "accuracy 0.9500 of the pair is below"),
        ({}, {"edge": {"model": {"name": "shallow"}, "least": 0.8}}, "recall 0.7900 of the edge's model"),
        ({}, {"cloud": {"model": {"name": "deep"}, "least": 0.98}}, "precision 0.9700 of the cloud's model"),
    ],
)
def test_a_pair_that_must_not_serve_is_not_registered(
    figures: dict[str, Any], spec: dict[str, Any], words: str
) -> None:
    job = _at("measuring", **spec)
    job = jobs.taken(job, _result(job, figures=_figures(**figures)), _time(5))
    assert job.status.phase == "Failed" and words in job.status.reason
    assert job.status.figures is not None, "people see what was measured"
    assert jobs.started(job).status.step == "waiting", "the same models would measure the same: it begins anew"


def test_a_missing_data_set_or_node_is_named_with_the_way_out() -> None:
    job = _job()
    assert list(requirements.missing(job, View({}))) == ["node cloud is unknown"]
    assert list(requirements.missing(job, View({NODE: EdgeView(NODE, False)}))) == ["node cloud has not reported yet"]
    (why,) = requirements.missing(job, _view("mine"))
    assert "data set public is not on node cloud" in why and "datasets push public FILE --edge cloud" in why
    unreadable = [DatasetIndex(name=name, error="is no npz file") for name in ("mine", "public")]
    broken = Report(edge=NODE, observed=Generation(), version="0.2", datasets=unreadable)
    found = list(requirements.missing(job, View({NODE: EdgeView(NODE, True, broken)})))
    assert found == ["data set mine: is no npz file", "data set public: is no npz file"]
    lost = [*requirements.missing(_job(workerSpec={"algorithm": {"name": "pack"}}), _view("mine", "public"))]
    assert lost == ["algorithm pack does not exist, or is no package"]


def test_a_data_set_that_is_gone_for_a_while_costs_no_attempt() -> None:
    job = _at("training-cloud", stepDeadlineSeconds=60)
    job = jobs.waits(job, ["data set mine is not on node cloud"], _time(30))
    assert jobs.has_waited(job) and job.status.phase == "Running"
    back = jobs.goes_on(job, _time(900))
    assert not jobs.has_waited(back)
    assert jobs.with_troubles(back, [], _time(950)) is back


@pytest.mark.parametrize("step", STEPS)
def test_another_version_of_a_data_set_begins_the_job_anew_with_another_worker(step: str) -> None:
    job = _at(step)
    same, other = (requirements.uses(job, _view("mine", "public", data=data)) for data in ("v1", "v2"))
    assert not jobs.has_other_data(job, same) and jobs.has_other_data(job, other)
    again = jobs.begun(jobs.abandoned(job), other, {}, 20, _time(9))
    assert (again.status.step, again.status.run, again.status.models) == ("selecting", 2, {})
    assert worker_of(again) != worker_of(job), "its worker has read the earlier samples"
    assert jobs.taken(again, _result(job), _time(10)) is again
    assert not jobs.has_other_data(_at("registering"), other), "what was measured stays what it was measured on"


def test_stop_and_start_and_a_job_that_has_ended() -> None:
    job = _at("training-edge")
    stopped = jobs.stopped(job, _time(5))
    assert (stopped.status.phase, pair_task(stopped, {}, None)) == ("Stopped", None)
    assert jobs.stopped(stopped, _time(6)) is stopped
    assert jobs.taken(stopped, _result(job), _time(6)) is stopped
    assert jobs.resumed(jobs.started(stopped), _time(7)).status.step == "training-edge"
    assert jobs.started(job) is job
    changed = jobs.begins_anew(stopped)
    assert jobs.started(changed).status.step == "waiting"


def test_the_service_has_the_models_and_what_tuning_found() -> None:
    job = _at("registering", service=PARTS, tuning={"parameters": [{"key": "value", "value": 0.5}]})
    job = job.model_copy(update={"metadata": Metadata(name="digits", uid="u", created_by="anna")})
    service = service_of(job)
    assert (service.name, service.metadata.created_by) == ("digits", "anna")
    assert service.spec.edge_worker.model.name == "shallow" and service.spec.cloud_worker is not None
    assert service.spec.cloud_worker.model.name == "deep"
    rule = service.spec.hard_sample_rule
    assert [(each.key, each.value) for each in rule.parameters] == [("value", 0.7)] and rule.temperature == 1.5
    serving = jobs.registered(job, {"cloud": 1, "edge": 1}, _time(9))
    assert (serving.status.phase, serving.status.step) == ("Running", "serving")
    done = jobs.served(serving, "digits", "", _time(10))
    assert (done.status.phase, done.status.service) == ("Succeeded", "digits")
    without = jobs.served(serving, "", "services/digits exists", _time(10))
    assert (without.status.phase, without.status.service) == ("Succeeded", "")
    assert any(each.type == "ServiceCreated" and each.status == "False" for each in without.status.conditions)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"edge": {"model": {"name": "deep"}}}, "the same model"),
        ({"workerSpec": {}}, "names no trainScriptBootFile"),
        ({"workerSpec": {"trainScriptBootFile": "p.py", "dataset": {"name": "mine"}}}, "names a data set"),
        ({"tuning": {"accuracy": 0.9, "offload": 0.1}}, "either accuracy or offload"),
        ({"tuning": {"rule": "never"}}, "no parameter to tune"),
        ({"tuning": {"accuracy": float("nan")}}, "finite"),
        ({"classes": ["a", "a"]}, "comes twice"),
        ({"selection": {"count": 0}}, "greater than or equal to 1"),
        ({"selection": {"count": 10**9}}, "less than or equal to"),
        ({"selection": {"mostDistance": -1}}, "greater than 0"),
        ({"distillation": {"share": 1.5}}, "less than or equal to 1"),
        ({"edge": {"model": {"name": "s"}, "objective": "speed"}}, "'recall' or 'precision'"),
        ({"evaluation": {"heldOut": 100}}, "less than or equal to 90"),
        ({"service": {"edgeWorker": {"scriptBootFile": "e.py"}}}, "no cloudWorker"),
        ({"service": {**PARTS, "edgeWorker": {"scriptBootFile": "e", "model": {"name": "x"}}}}, "runs other models"),
        ({"service": {**PARTS, "hardSampleRule": {"name": "margin"}}}, "which tuning finds"),
        ({"frob": 1}, "Extra inputs"),
    ],
)
def test_a_spec_that_no_job_can_follow_is_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        _job(**spec)
