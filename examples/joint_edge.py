"""The edge's side of joint-inference-service.yaml: a shallow model trained on few samples, for the node's devices."""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from heliograph import JointInference

x, y = load_digits(return_X_y=True)
model = LogisticRegression(max_iter=1000).fit(x[:150] / 16, y[:150])
JointInference("digits", edge=model, before=lambda image: image / 255).serve()
