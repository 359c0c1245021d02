"""The incremental job's training script: the nearest mean of each class. Every third round is spoilt on purpose: the
gate has something to refuse."""

from __future__ import annotations

import numpy as np

from heliograph import IncrementalLearning
from heliograph.simulations.faults.stream_serving import FEATURES, Means, first_weights

SPOILT_EVERY = 3


def main() -> None:
    weights = first_weights(0)
    for this in IncrementalLearning(weights, predict=Means(weights).scores).rounds():
        for k in range(len(weights["b"])):
            own = this.x[this.y == k]
            if len(own):
                weights["w"][:, k] = (weights["w"][:, k] + own.mean(0)) / 2
        if this.number % SPOILT_EVERY == 0:
            weights["w"][...] = np.zeros((FEATURES, len(weights["b"])), np.float32)
        weights["b"][...] = -(weights["w"] ** 2).sum(0) / 2


if __name__ == "__main__":
    main()
