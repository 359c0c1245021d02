"""The cloud's side of joint-inference-service.yaml: a deep model trained on all samples."""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from heliograph import BigModel

x, y = load_digits(return_X_y=True)
model = MLPClassifier((256, 128), random_state=0).fit(x / 16, y)
BigModel("digits", model, before=lambda image: image / 255).serve()
