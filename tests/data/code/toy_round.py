"""A training script for the toy algorithms: each edge adds its own step and prints the values that it began with."""

import numpy as np

from heliograph import FederatedLearning, session

EDGE = session.current.edge
STEP = {"edge-1": 1.0, "edge-2": 1.5, "edge-3": 9.0}[EDGE]
model = {"w": np.zeros(4, np.float32)}
for r in FederatedLearning(model, num_samples=10).rounds():
    control = f"{r.down['control:w'].mean():.3f}" if r.down else "none"
    counted = r.down.get("counted")
    print(f"round {r.number} begins with {model['w'].mean():g}, control {control}, counted {counted}", flush=True)
    model["w"] += np.float32(STEP)
    r.attach(control={"w": np.full(4, 10 * STEP, np.float32)})
