"""Models whose weights cannot be averaged, each with the reason and the way out. Imports no framework."""

from __future__ import annotations

from heliograph.core.errors import Refused

_TREES = (
    "Trees have no weights of one shape to average. Use the leaves of trees that all edges share as features of a "
    "linear model and train that (examples/xgboost_leaves.py), or train an MLPClassifier."
)
_SAMPLES = (
    "It keeps samples of its edge, which do not average and should not travel. Use SGDClassifier or LinearSVC, on "
    "Nystroem or RBFSampler features with a fixed random_state if it needs a kernel."
)
_COUNTS = (
    "Its counts add up over edges and do not average, and each round would count every sample again. Use "
    "LogisticRegression or SGDClassifier, or pass a dict of arrays with your own counts of a round."
)
_CENTRES = (
    "The centres of two edges have no common order to average. Pass a dict of arrays of your own, {'centres': array}, "
    "which every edge starts from and moves."
)
_SEARCH = "Search on one machine, then pass the estimator that it found (best_estimator_)."
_MEMBERS = "Pass one estimator that averages, or a dict of arrays of your own with every member's weights."

_ROOTS = {
    "xgboost": ("trees", _TREES),
    "lightgbm": ("trees", _TREES),
    "catboost": ("trees", _TREES),
    "skorch": ("a torch.nn.Module inside", "Pass its module, after initialize(): FederatedLearning(net.module_)."),
}
"""By top-level package: what its models have, and the way out."""
_KINDS = (
    ("sklearn.tree", "trees", _TREES),
    ("sklearn.ensemble", "an ensemble of estimators", _TREES),
    ("sklearn.svm", "support vectors", _SAMPLES),
    ("sklearn.neighbors", "samples of this edge", _SAMPLES),
    ("sklearn.gaussian_process", "samples of this edge", _SAMPLES),
    ("sklearn.kernel_ridge", "samples of this edge", _SAMPLES),
    ("sklearn.naive_bayes", "counts and moments of its classes", _COUNTS),
    ("sklearn.cluster", "clusters", _CENTRES),
    ("sklearn.mixture", "components", _CENTRES),
    ("sklearn.model_selection", "a search", _SEARCH),
    ("sklearn.multiclass", "several estimators", _MEMBERS),
    ("sklearn.multioutput", "several estimators", _MEMBERS),
    ("sklearn.calibration", "several estimators", _MEMBERS),
)
"""By module of scikit-learn."""


def refusal_of_package(model: object, field: str = "model") -> Refused | None:
    """Return the refusal of a model of a package whose models are known not to average; else None."""
    for kind in type(model).__mro__:
        found = _ROOTS.get(kind.__module__.partition(".")[0])
        if found is not None:
            return _refusal(model, field, *found)
    return None


def refusal_of_estimator(estimator: object, field: str) -> Refused:
    """Return the refusal of an estimator that is not known to average."""
    if (found := refusal_of_package(estimator, field)) is not None:
        return found
    for kind in type(estimator).__mro__:
        for module, what, hint in _KINDS:
            if kind.__module__ == module or kind.__module__.startswith(f"{module}."):
                return _refusal(estimator, field, what, hint)
    hint = "If they do, pass an object with get() -> dict of arrays and set(arrays) that reads and writes them."
    return _refusal(estimator, field, "weights that are not known to average", hint)


def _refusal(model: object, field: str, what: str, hint: str) -> Refused:
    name = f"{type(model).__module__.partition('.')[0]}.{type(model).__name__}"
    expected = "an estimator whose weights average: a linear model, an MLP, or a Pipeline that ends in one"
    return Refused("bad-model", field=field, expected=expected, got=f"{name}, with {what}", hint=hint)
