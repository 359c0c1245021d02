"""Answers with the class whose mean is nearest."""

import numpy as np

from heliograph import JointInference


class Nearest:
    def __init__(self):
        self.weights = {"b": np.zeros(2, np.float32), "w": np.zeros((2, 2), np.float32)}

    def get(self):
        return dict(self.weights)

    def set(self, arrays):
        self.weights = {name: np.array(array) for name, array in arrays.items()}

    def __call__(self, batch):
        found = np.stack(batch) @ self.weights["w"] + self.weights["b"]
        found = np.exp(found - found.max(1, keepdims=True))
        return found / found.sum(1, keepdims=True)


JointInference("points", edge=Nearest(), rule="always").serve()
