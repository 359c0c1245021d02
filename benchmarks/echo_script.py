"""A participant that adds one to the arrays it receives: a round without training."""

import numpy as np

from heliograph import FederatedLearning, parameters

model = {"w": np.zeros(int(str(parameters().get("elements", 250))), np.float32)}
federated = FederatedLearning(model, num_samples=10)
for _ in federated.rounds():
    model["w"] += 1
