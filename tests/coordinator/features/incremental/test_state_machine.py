"""What people are told of an incremental learning job."""

from __future__ import annotations

from heliograph.bus.contract.resources import IncrementalLearningJob, JointInferenceService
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
