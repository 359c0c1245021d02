"""The training script of the demo: three lines make it learn on."""

from __future__ import annotations

import numpy as np

from heliograph import IncrementalLearning, dataset
from heliograph.local.demo.incremental.network import RATE, new_weights, scores, train

path = dataset()
assert path is not None
with np.load(path) as file:
    x, y = file["x"], file["y"]
rng = np.random.default_rng(0)
weights = new_weights(int(y.max()) + 1, rng)

il = IncrementalLearning(weights, predict=lambda x: scores(weights, x))
for this in il.rounds(x, y):
    rate = float(this.parameters.get("rate") or RATE)
    train(weights, this.x, this.y, rng, rate)
    this.report(accuracy=(scores(weights, this.x).argmax(1) == this.y).mean())
    print(f"round {this.number}: {len(this.new)} new samples, {len(this.x)} with exemplars, rate {rate:g}")
