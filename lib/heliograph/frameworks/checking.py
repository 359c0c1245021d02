"""The check of a model before it is trained, alone as in a job."""

from __future__ import annotations

from heliograph.frameworks import adapter_for


def check_model(model: object) -> None:
    """Raise Refused where no adapter takes a model, or where a scikit-learn estimator has no weights yet.

    The models of other frameworks have weights from the start, and may be too large to read them twice.
    """
    adapter = adapter_for(model)
    # the packages of the model's base classes tell its framework without an import of it
    if "sklearn" in {kind.__module__.partition(".")[0] for kind in type(model).__mro__}:
        adapter.get()
