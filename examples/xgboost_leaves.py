"""XGBoost's trees in a job: shared trees make features, a linear model on them is trained together.

    python examples/xgboost_leaves.py        # outside a job: ten passes over scikit-learn's digits

The trees of two edges have no common shape, so that they cannot be averaged, and an XGBClassifier is refused. Boost
trees once on a sample that all edges may have, ship them with the script, and average the weights of a linear model on
their leaves (He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014). Here the sample is
the first 200 digits of scikit-learn; with data of your own, keep the trees of ``save_model`` beside the script.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from xgboost import XGBClassifier

from heliograph import FederatedLearning, dataset  # Heliograph, line 1 of 3

Samples = tuple[np.ndarray, np.ndarray]
TREES, LEAVES = 60, 16
"""Trees of each class, and numbers that a tree of depth 3 gives its nodes."""


def load(path: Path | None) -> tuple[Samples, Samples]:
    """Return the training samples and the test samples; in a job both are the worker's whole data set."""
    if path is not None:
        with np.load(path) as file:
            data = file["x"], file["y"]
        return data, data
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    return (x[:1400], y[:1400]), (x[1400:], y[1400:])


def shared_trees() -> XGBClassifier:
    """Return the trees that every edge has."""
    x, y = load_digits(return_X_y=True)
    settings = {"n_estimators": TREES, "max_depth": 3, "learning_rate": 0.3, "n_jobs": 1, "random_state": 0}
    return XGBClassifier(**settings).fit((x[:200] / 16).astype(np.float32), y[:200])


def leaves(trees: XGBClassifier, x: np.ndarray) -> np.ndarray:
    """Return one column for each leaf of each tree: 1 where a sample falls into it."""
    numbers = trees.apply(x).astype(np.int64).reshape(len(x), -1)
    return np.eye(LEAVES, dtype=np.float32)[numbers].reshape(len(x), -1)


train, test = load(dataset())  # Heliograph, line 2 of 3; was: load(None)
trees = shared_trees()
train, test = (leaves(trees, train[0]), train[1]), (leaves(trees, test[0]), test[1])

model = SGDClassifier(loss="log_loss", alpha=1e-3, random_state=0)
model.partial_fit(train[0][:1], train[1][:1], classes=np.arange(10))  # the leaves travel, not the trees


def accuracy() -> float:
    """Return the share of test samples classified correctly."""
    return model.score(*test)


for _ in FederatedLearning(model, num_samples=len(train[0]), evaluate=accuracy).rounds(local=10):  # line 3 of 3
    model.partial_fit(*train)
    print(f"accuracy {accuracy():.3f}")
