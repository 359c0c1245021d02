"""A training script that waits at gates until files of their names appear beside it; its model counts the rounds."""

import time
from pathlib import Path

import numpy as np

from heliograph import FederatedLearning, session

HERE = Path(__file__).parent
EDGE = session.current.edge


def halt_at(gate):
    print(f"at gate {gate}", flush=True)
    while not (HERE / gate).exists():
        time.sleep(0.005)


class Counter:
    """A model that returns its arrays only when their gate is open."""

    def __init__(self):
        self.w = np.zeros(SIZE, np.float32)  # noqa: F821
        self.gate = f"{EDGE}-initial"

    def get(self):
        halt_at(self.gate)
        return {"w": self.w}

    def written(self):
        """Return what ``set`` wrote, at no gate: the worker reads it to see that it is there."""
        return {"w": self.w}

    def set(self, arrays):
        self.w = np.array(arrays["w"])


def measured():
    halt_at("cloud-evaluate")
    return {"mean": float(model.w.mean())}


model = Counter()
for r in FederatedLearning(model, num_samples=10, evaluate=measured).rounds():
    model.w = model.w + 1
    model.gate = f"{EDGE}-{r.number}"
    r.report(mean=float(model.w.mean()))
