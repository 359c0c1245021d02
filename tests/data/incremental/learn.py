"""Two points of the plane, learned as the means of their samples."""

import numpy as np

from heliograph import IncrementalLearning

weights = {"b": np.zeros(2, np.float32), "w": np.zeros((2, 2), np.float32)}


def scores(x):
    return x @ weights["w"] + weights["b"]


for this in IncrementalLearning(weights, predict=scores).rounds():
    for k in range(2):
        mean = this.x[this.y == k].mean(0) if (this.y == k).any() else np.zeros(2, np.float32)
        weights["w"][:, k], weights["b"][k] = 2 * mean, -(mean**2).sum()
    print(f"round {this.number} with {len(this.new)} new samples", flush=True)
