"""What people are told of an incremental learning job."""

from __future__ import annotations

from heliograph.bus.contract.resources import CandidateState, IncrementalLearningJob, JointInferenceService, LoopState
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.incremental import state_machine as jobs

NOW, LATER = "2026-01-01T00:00:00.000000Z", "2026-01-01T00:01:00.000000Z"


def test_a_job_that_has_what_it_lacked_says_so() -> None:
    """Also one that runs: its queue was deleted, and made again."""
    learned = {"model": {"name": "m"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
    job = jobs.begun(IncrementalLearningJob.model_validate(
        {"kind": "IncrementalLearningJob", "metadata": {"name": "j"}, "spec": {"models": [learned]}}
    ), NOW)  # fmt: skip
    assert not jobs.has_waited(job)
    waiting = jobs.waits(job, ["label queue j does not exist"], NOW)
    assert waiting.status.phase == "Running" and jobs.has_waited(waiting)
    again = jobs.begun(waiting, LATER)
    assert not jobs.has_waited(again) and again.status.start_time == NOW


def test_a_trigger_of_drift_that_no_service_watches_is_said() -> None:
    learned = {"model": {"name": "m"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
    train = {"any": [{"newSamples": 10}, {"drift": {"of": "features", "detector": "psi"}}]}
    job = IncrementalLearningJob.model_validate(
        {"kind": "IncrementalLearningJob", "metadata": {"name": "j"}, "spec": {"models": [learned], "train": train}}
    )

    def service(model: str, *drift: str) -> JointInferenceService:
        spec = {"edgeWorker": {"model": {"name": model}, "scriptBootFile": "serve.py"}, "drift": list(drift)}
        return JointInferenceService.model_validate(
            {"kind": "JointInferenceService", "metadata": {"name": "s"}, "spec": spec}
        )

    assert jobs.with_detectors(job, [service("m", "psi")], NOW) is job
    lacking = jobs.with_detectors(job, [service("m", "page-hinkley"), service("other", "psi")], NOW)
    (told,) = lacking.status.conditions
    assert (told.type, told.status, told.message.partition(",")[0]) == (
        "DriftWatched", "False", "no service of m runs psi"
    )  # fmt: skip
    assert jobs.with_detectors(lacking, [], LATER) is lacking
    assert jobs.with_detectors(lacking, [service("m", "psi")], LATER).status.conditions[0].status == "True"


def test_a_metric_that_no_evaluation_gives_is_said() -> None:
    learned = {"model": {"name": "m"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
    spec = {"models": [learned], "train": {"any": [{"metricDrop": {"metric": "f2", "below": 0.9}}]},
            "evaluation": {"metric": "f1"}, "stop": {"metric": 0.99}}  # fmt: skip
    job = IncrementalLearningJob.model_validate(
        {"kind": "IncrementalLearningJob", "metadata": {"name": "j"}, "spec": spec}
    )

    def after_a_round(job: IncrementalLearningJob, **metrics: float) -> IncrementalLearningJob:
        state = LoopState(step="watching", round=1, candidates={"m": CandidateState(step="refused")}, metrics=metrics)
        return jobs.ended_round(jobs.with_loop(job, state), NOW)

    def told(job: IncrementalLearningJob) -> list[tuple[str, str]]:
        return [(each.status, each.message) for each in job.status.conditions if each.type == "MetricsMeasured"]

    assert told(after_a_round(job)) == [], "nothing has been measured yet"
    lacking = after_a_round(job, accuracy=0.9, f1=0.8)
    ((status, message),) = told(lacking)
    assert status == "False" and "no evaluation gives f2" in message and "accuracy, f1" in message
    assert told(after_a_round(lacking, accuracy=0.9, f1=0.8, f2=0.7)) == [("True", "")]
    assert told(after_a_round(job, accuracy=0.9, f1=0.8, f2=0.7)) == []


def test_a_clock_that_is_set_back_delays_no_schedule_of_a_job_that_has_begun_nothing() -> None:
    learned = {"model": {"name": "m"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
    job = jobs.begun(IncrementalLearningJob.model_validate(
        {"kind": "IncrementalLearningJob", "metadata": {"name": "j"}, "spec": {"models": [learned]}}
    ), LATER)  # fmt: skip
    assert jobs.with_present_clock(job, LATER) is job
    assert jobs.with_present_clock(job, NOW).status.start_time == NOW


def test_what_edges_have_made_is_told_with_their_names() -> None:
    learned = {"model": {"name": "m"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
    job = IncrementalLearningJob.model_validate({
        "kind": "IncrementalLearningJob", "metadata": {"name": "j"}, "spec": {"models": [learned], "location": "edge"},
        "status": {"edges": {
            "edge-1": {"deployed": {"m": "1" * 64}, "last": {"round": 3, "models": {"m": {"decision": "refused"}}}},
            "edge-2": {},
        }},
    })  # fmt: skip
    told = jobs.learned_models(job, View())
    assert told.edges == {"edge-1": {"m": "1" * 64}}
    assert [(each.edge, each.round, each.decision) for each in told.versions] == [("edge-1", 3, "refused")]
