"""A minimal training script: least squares by gradient descent."""

import numpy as np

from heliograph import FederatedLearning, dataset, parameters

data = np.load(dataset())
settings = parameters()
model = {"w": np.zeros(3, np.float32)}


def error():
    return float(np.mean((data["x"] @ model["w"] - data["y"]) ** 2))


federated = FederatedLearning(model, evaluate=lambda: {"error": error()})
for r in federated.rounds(local=5):
    for _ in range(20):
        gradient = data["x"].T @ (data["x"] @ model["w"] - data["y"]) / len(data["y"])
        model["w"] -= 0.5 * gradient.astype(np.float32)
    r.report(error=error(), batch_size=settings["batch_size"], learning_rate=settings["learning_rate"])
