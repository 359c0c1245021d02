"""A job as a run of MLflow, in the experiment of its model. ``mlflow-skinny`` is enough.

The run has the job's uid as a tag, by which another process finds it again. MLflow may write part of a round before it
fails: what is there of a round that is not whole is not written twice.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from heliograph.core.errors import HeliographError, Unreachable
from heliograph.tracking.run_writer import JobFacts, Written
from heliograph.tracking.values import COUNTED, TEST

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

SERIES = "heliograph.job_uid"
_STATUS = {"Succeeded": "FINISHED", "Failed": "FAILED"}
_SETTINGS = {
    # MLflow's own attempts take minutes, in which nobody hears of a wrong address; whoever tracks tries again
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # whoever tracks says where the run is
}
"""Environment of this process, where it does not say otherwise."""
_SAID = 200
"""Characters of what MLflow says: the whole of a lost connection fills a screen."""
_PASSING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""Error codes of MLflow that another attempt may not meet; a server that is not reached has the first."""


class MlflowRun:
    """Writes to a server or store of MLflow.

    Args:
        tracking_uri: as MLflow takes it: ``http://HOST:5000``, ``sqlite:///FILE``, or a directory.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.place = f"MLflow at {tracking_uri}"
        self._uri = tracking_uri
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._there: dict[str, set[int]] = {}
        """Steps by name that are there: of evaluations, and of rounds that are not whole."""

    def require(self) -> None:
        try:
            import mlflow.tracking  # noqa: F401
        except ImportError:
            raise HeliographError("MLflow is not installed here: pip install 'heliograph[mlflow]'") from None
        with self._refusing():
            self._connected().search_experiments(max_results=1)

    def open(self, job: JobFacts) -> Written:
        with self._refusing():
            client = self._client = self._connected()
            run = _run_of(client, job)
            self._run_id = run.info.run_id
            self.place = f"MLflow at {self._uri}: experiment {job.model}, run {self._run_id}"
            if run.info.status != "RUNNING":
                client.update_run(self._run_id, status="RUNNING")
            return self._read(client, run)

    def write(self, step: int, time: float, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        assert self._client is not None, "open() comes first"
        named = {_name_of(name): value for name, value in values.items()}
        metrics = [
            Metric(name, value, int(time * 1000), step)
            for name, value in named.items()
            if step not in self._there.get(name, ())
        ]
        if metrics:
            with self._refusing():
                self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, phase: str = "") -> None:
        if self._client is not None and phase:
            with self._refusing():
                self._client.set_terminated(self._run_id, _STATUS.get(phase, "KILLED"))
        self._client = None

    def _connected(self) -> MlflowClient:
        from mlflow.tracking import MlflowClient

        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        return MlflowClient(self._uri)

    def _read(self, client: MlflowClient, run: Run) -> Written:
        found, steps = Written(), dict[str, set[int]]()
        for name in sorted(run.data.metrics, key=lambda each: each != COUNTED):
            history = client.get_metric_history(self._run_id, name)
            steps[name] = {each.step for each in history}
            if name == COUNTED:
                found.rounds |= steps[name]
            if whole := [each for each in history if each.step in found.rounds]:
                found.sums[name] = max(whole, key=lambda each: each.step).value
        # nothing tells whether an evaluation is whole: each of its values is compared
        self._there = {name: each if name.startswith(TEST) else each - found.rounds for name, each in steps.items()}
        return found

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            said = f"MLflow at {self._uri}: {str(error).strip().splitlines()[0][:_SAID]}"
            raise (Unreachable if error.error_code in _PASSING else HeliographError)(said) from None


def _run_of(client: MlflowClient, job: JobFacts) -> Run:
    """Return the run of a job, made where there is none."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(job.model)
    try:
        place = experiment.experiment_id if experiment is not None else client.create_experiment(job.model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process has made it meanwhile
            raise
        place = client.get_experiment_by_name(job.model).experiment_id
    if found := client.search_runs([place], f"tags.`{SERIES}` = '{job.series}'", max_results=1):
        run: Run = found[0]
        return run
    made: Run = client.create_run(place, tags={SERIES: job.series}, run_name=job.name)
    for name, value in job.parameters.items():
        client.log_param(made.info.run_id, _name_of(name), value)
    return made


def _name_of(name: str) -> str:
    """Return a name that MLflow takes: letters, digits and some marks, and no path that it would shorten."""
    found = re.sub(r"[^\w .:/-]", "_", name)
    plain = posixpath.normpath(found) == found and not found.startswith(("/", ".."))
    return found if plain else found.replace("/", "_")
