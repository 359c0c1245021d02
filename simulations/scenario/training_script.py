"""The script that the workers of a scenario on real processes run: the same learning as in virtual time.

``learning.json``, beside the data set, says what the seed is, how fast each edge is, and what is wrong with which; the
last of these may change while it runs.
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
    from heliograph.simulations.scenario.samples import Array, Set

SETTING = "learning.json"


class Held:
    """The samples that this worker was given, whoever asks: ``Samples``, out of a file."""

    def __init__(self, file: Path) -> None:
        import numpy as np

        with np.load(file) as arrays:
            self._set: Set = arrays["x"], arrays["y"]

    def of(self, edge: str) -> Set:
        return self._set

    def number_of(self, edge: str) -> int:
        return len(self._set[1])

    def held_out(self) -> Set:
        return self._set


def main() -> None:
    job, file = session.current, dataset()
    assert job is not None and file is not None, "it runs as a worker of a scenario's job"
    setting = _setting(file)
    learning = Learning(Held(file), float(setting["seconds_per_sample"]), int(setting["seed"]), setting["memory"])
    speed = float(setting["speeds"].get(job.edge, 1.0))
    while (work := job.next_work()) is not None:
        parameters = {**job.parameters, **work.parameters}
        if work.weights is None:
            made = learning.initial(job.edge, parameters)
            job.send_update(made.arrays, made.num_samples, {})
            continue
        weights = _copied(work.weights)
        if work.kind == "evaluate":
            made = learning.evaluate(weights, parameters)
            job.send_evaluation(dict(made.metrics), made.num_samples)
            continue
        ailments = _setting(file)["ailments"].get(job.edge, {})
        learning.behave(job.edge, ailments.get("behaviour"), ailments.get("amount", 0.0))
        learning.pace(job.edge, ailments.get("times", 1.0))
        made = learning.train(job.edge, work.round, weights, parameters)
        time.sleep(made.seconds / speed)
        job.send_update(made.arrays, made.num_samples, dict(made.metrics))


def _setting(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((file.parent / SETTING).read_text())
    return found


def _copied(weights: TensorFile) -> dict[str, Array]:
    with weights as file:
        return {name: array.copy() for name, array in file.arrays().items()}


if __name__ == "__main__":
    main()
