"""Pipelines: the last step's weights average, a scaler's statistics are combined, other steps are to be the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heliograph.core.errors import Refused
from heliograph.frameworks import ModelAdapter, adapter_for
from heliograph.frameworks.loading import load

pytest.importorskip("sklearn")
Arrays = dict[str, np.ndarray[Any, Any]]
rng = np.random.default_rng(0)
parts = [1e6 + 3 * rng.normal(size=(size, 3)) + shift for size, shift in ((30, 0.0), (70, 5.0), (20, -9.0))]
"""Three edges' rows: large values with a small spread, of which a plain mean of squares would lose every digit."""


def pipeline(rows: Any, *between: Any) -> Any:
    from sklearn.linear_model import SGDRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), *between, SGDRegressor()).fit(rows, rows[:, 0])


def mean_of(adapters: list[ModelAdapter]) -> Arrays:
    """Return the mean of the adapters' arrays by their rows, as an aggregation makes it."""
    weights = np.array([len(rows) for rows in parts]) / sum(map(len, parts))
    found = [adapter.get() for adapter in adapters]
    return {
        name: found[0][name] if name.startswith("constant:")
        else sum(weight * each[name] for weight, each in zip(weights, found, strict=True))
        for name in found[0]
    }  # fmt: skip


def test_a_scaler_gets_the_statistics_of_all_edges_rows() -> None:
    models = [pipeline(rows) for rows in parts]
    adapters = [adapter_for(model) for model in models]
    first = adapters[0].get()  # a job begins with one edge's weights
    assert {"standardscaler/mean_", "standardscaler/spread", "sgdregressor/coef_"} <= first.keys()
    for adapter in adapters:
        adapter.set(first)
    np.testing.assert_array_equal(models[2][0].mean_, models[0][0].mean_)
    for _ in range(3):  # each edge goes on sending its own statistics, whatever it has been given
        combined = mean_of(adapters)
        for adapter in adapters:
            adapter.set(combined)
    every = np.concatenate(parts)
    for model in models:
        np.testing.assert_allclose(model[0].mean_, every.mean(0), rtol=1e-12)
        np.testing.assert_allclose(model[0].var_, every.var(0), rtol=1e-9)
        np.testing.assert_allclose(model[0].transform(every).std(0), 1.0, rtol=1e-9)


def test_a_scaler_that_the_script_fits_anew_sends_the_new_statistics() -> None:
    model = pipeline(parts[0])
    adapter = adapter_for(model)
    adapter.set(adapter_for(pipeline(parts[1])).get())
    model.fit(parts[2], parts[2][:, 0])
    np.testing.assert_array_equal(adapter.get()["standardscaler/mean_"], parts[2].mean(0))


def test_a_feature_that_is_constant_everywhere_is_not_scaled() -> None:
    rows = np.ones((20, 3)) * 1e6
    adapter = adapter_for(model := pipeline(rows))
    adapter.set(adapter.get())
    assert model[0].scale_.tolist() == [1, 1, 1]


def test_steps_that_learn_something_else_are_to_be_the_same() -> None:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures

    with pytest.raises(Refused, match=r"pca/fitted: .*PCA fitted on other rows") as refused:
        adapter_for(pipeline(parts[0], PCA(2))).set(adapter_for(pipeline(parts[1], PCA(2))).get())
    assert "What PCA learns cannot be averaged" in str(refused.value)
    for same in (PolynomialFeatures(2), "passthrough"):  # these learn nothing from the rows
        adapter_for(pipeline(parts[0], same)).set(adapter_for(pipeline(parts[1], same)).get())
    whole = np.concatenate(parts)
    learned = [MinMaxScaler().fit(whole), MinMaxScaler().fit(np.repeat(whole, 2, axis=0))]
    assert learned[0].n_samples_seen_ != learned[1].n_samples_seen_
    adapters = [adapter_for(pipeline(parts[0])) for _ in range(2)]
    for adapter, step in zip(adapters, learned, strict=True):
        adapter._estimator.steps.insert(0, ("range", step))
    adapters[0].set(adapters[1].get())


def test_columns_of_a_table_prepared_each_in_its_way() -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    def model(rows: Any, cities: list[str]) -> Any:
        encoder = OneHotEncoder(categories=[cities], handle_unknown="ignore")
        columns = ColumnTransformer([("size", StandardScaler(), [0]), ("city", encoder, [1])])
        table = np.empty((len(rows), 2), object)
        table[:, 0], table[:, 1] = rows[:, 0], "Oslo"
        return make_pipeline(columns, SGDClassifier()).fit(table, np.arange(len(rows)) % 2)

    ours = adapter_for(model(parts[0], ["Oslo", "Rome"]))
    theirs = adapter_for(model(parts[1], ["Oslo", "Rome"]))
    assert "columntransformer/size/mean_" in ours.get()
    theirs.set(ours.get())
    with pytest.raises(Refused, match="OneHotEncoder fitted on other rows"):
        adapter_for(model(parts[1], ["Oslo", "Bern"])).set(ours.get())


def test_an_unfitted_step_and_a_last_step_that_does_not_average_are_named() -> None:
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    rows, classes = parts[0], np.arange(30) % 2
    with pytest.raises(Refused, match="step standardscaler: expected a fitted StandardScaler"):
        adapter_for(make_pipeline(StandardScaler(), SGDClassifier())).get()
    with pytest.raises(Refused, match=r"step sgdclassifier: .*partial_fit\(x\[:1\], y\[:1\], classes"):
        adapter_for(make_pipeline(StandardScaler().fit(rows), SGDClassifier())).get()
    with pytest.raises(Refused, match=r"step svc: .*support vectors"):
        adapter_for(make_pipeline(StandardScaler(), SVC()).fit(rows, classes)).get()


def test_a_file_is_loaded_into_a_pipeline_fitted_on_other_rows(tmp_path: Any) -> None:
    from heliograph.bus.contract.weights_file import dumps

    trained, fresh = pipeline(parts[0]), pipeline(parts[1])
    (tmp_path / "model.safetensors").write_bytes(dumps(adapter_for(trained).get()))
    load(fresh, tmp_path / "model.safetensors")
    np.testing.assert_allclose(fresh.predict(parts[2]), trained.predict(parts[2]), rtol=1e-9)
    with pytest.raises(Refused, match="No such file"):
        load(fresh, tmp_path / "another.safetensors")
