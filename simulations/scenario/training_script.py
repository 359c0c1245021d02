"""The training script of a scenario's workers on real processes; it trains as in virtual time.

``learning.json`` beside the data set has the seed, the speed of each edge and its disturbances. The disturbances may
change during the run.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph import dataset, session
from heliograph.simulations.scenario.learning import Learning

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import TensorFile
    from heliograph.simulations.scenario.samples import Array, SampleSet

SETTINGS = "learning.json"


class FileSamples:
    """The samples of this worker's file, for any edge; takes the place of ``Samples``."""

    def __init__(self, file: Path) -> None:
        import numpy as np

        with np.load(file) as arrays:
            self._set: SampleSet = arrays["x"], arrays["y"]

    def of(self, edge: str) -> SampleSet:
        return self._set

    def number_of(self, edge: str) -> int:
        return len(self._set[1])

    def held_out(self) -> SampleSet:
        return self._set


def main() -> None:
    job, file = session.current, dataset()
    assert job is not None and file is not None, "the script must run as a worker of a scenario's job"
    settings = _settings(file)
    cost, seed = float(settings["seconds_per_sample"]), int(settings["seed"])
    learning = Learning(FileSamples(file), cost, seed, settings["memory"])
    speed = float(settings["speeds"].get(job.edge, 1.0))
    while (work := job.next_work()) is not None:
        parameters = {**job.parameters, **work.parameters}
        if work.weights is None:
            computed = learning.initial(job.edge, parameters)
            job.send_update(session.Trained(computed.arrays, computed.num_samples))
            continue
        weights = _copied(work.weights)
        if work.kind == "evaluate":
            computed = learning.evaluate(weights, parameters)
            job.send_evaluation(dict(computed.metrics), computed.num_samples)
            continue
        disturbance = _settings(file)["disturbances"].get(job.edge, {})
        learning.set_behaviour(job.edge, disturbance.get("behaviour"), disturbance.get("amount", 0.0))
        learning.set_slowdown(job.edge, disturbance.get("slowdown", 1.0))
        computed = learning.train(job.edge, work.round, weights, parameters)
        time.sleep(computed.seconds / speed)
        job.send_update(session.Trained(computed.arrays, computed.num_samples, dict(computed.metrics)))


def _settings(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((file.parent / SETTINGS).read_text())
    return found


def _copied(weights: TensorFile) -> dict[str, Array]:
    with weights as file:
        return {name: array.copy() for name, array in file.arrays().items()}


if __name__ == "__main__":
    main()
