"""What people are told of an incremental learning job."""

from __future__ import annotations

from heliograph.bus.contract.resources import IncrementalLearningJob
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
