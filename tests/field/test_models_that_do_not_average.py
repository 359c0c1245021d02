"""Scikit-learn by what an estimator can do: what is not known to average is refused with the way out (row 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.core.errors import Refused
from heliograph.frameworks import adapter_for
from heliograph.frameworks.loading import Loader
from tests.field.played_job import PlayedJob

pytest.importorskip("sklearn")
x = np.random.default_rng(0).normal(size=(40, 3))
y = np.arange(40) % 2

Play = Callable[[str | Path], PlayedJob]


@pytest.fixture
def play(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Return ``play("script.py")``, which makes a job of one of the user's scripts."""
    return lambda script: PlayedJob(project / script, tmp_path, monkeypatch)


def rows_of(digits: Path, place: Path, *classes: int) -> Path:
    """Write the digits of these classes as an edge's data set."""
    with np.load(digits) as file:
        chosen = np.isin(file["y"], classes)
        path = place / f"digits-{'-'.join(map(str, classes))}.npz"
        np.savez(path, x=file["x"][chosen], y=file["y"][chosen])
    return path


def script(place: Path, text: str) -> Path:
    path = place / "train.py"
    path.write_text("import numpy as np\nfrom heliograph import FederatedLearning, dataset\n"
                    "with np.load(dataset()) as file: x, y = file['x'], file['y']\n" + text)  # fmt: skip
    return path


def test_row_5_xgboost_sent_only_its_intercept(
    play: Play, digits: Path, framework: Callable[[str], ModuleType]
) -> None:
    framework("xgboost")
    with pytest.raises(Refused, match="with trees") as refused:
        play("xgboost_train.py").round(digits)
    assert "examples/xgboost_leaves.py" in str(refused.value)


def refused_estimators() -> dict[str, tuple[Any, str]]:
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.linear_model import SGDClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    return {
        "forest": (RandomForestClassifier(2), "examples/xgboost_leaves.py"),
        "tree": (DecisionTreeClassifier(), "Trees have no weights"),
        "kernel": (SVC(), "LinearSVC"),
        "linear-kernel": (SVC(kernel="linear"), "LinearSVC"),  # it has a coef_, computed anew whenever it is read
        "neighbours": (KNeighborsClassifier(), "keeps samples of its edge"),
        "process": (GaussianProcessRegressor(), "keeps samples of its edge"),
        "bayes": (GaussianNB(), "counts add up"),
        "clusters": (MiniBatchKMeans(2), "no common order"),
        "search": (GridSearchCV(SGDClassifier(), {}), "best_estimator_"),
    }


@pytest.mark.parametrize("name", [
    "forest", "tree", "kernel", "linear-kernel", "neighbours", "process", "bayes", "clusters", "search",
])  # fmt: skip
def test_estimators_that_do_not_average_name_the_way_out(name: str) -> None:
    estimator, way_out = refused_estimators()[name]
    with pytest.raises(Refused, match="expected an estimator whose weights average") as refused:
        adapter_for(estimator.fit(x, y)).get()
    assert way_out in str(refused.value)


def test_a_classs_name_tells_nothing_and_its_bases_do() -> None:
    from sklearn.base import BaseEstimator
    from sklearn.linear_model import SGDClassifier

    class Mine(SGDClassifier):  # type: ignore[misc]
        pass

    class LooksLinear(BaseEstimator):  # type: ignore[misc]
        coef_ = np.zeros((1, 3))
        intercept_ = np.zeros(1)

    assert "coef_" in adapter_for(Mine().partial_fit(x, y, classes=[0, 1])).get()
    with pytest.raises(Refused, match=r"get\(\) -> dict of arrays"):
        adapter_for(LooksLinear()).get()


def test_row_5_edges_that_know_other_classes_were_averaged(play: Play, digits: Path, tmp_path: Path) -> None:
    one, other = rows_of(digits, tmp_path, 0, 1), rows_of(digits, tmp_path, 4, 9)
    job = play("sklearn_classes.py")
    job.round(one)
    with pytest.raises(Refused) as refused:
        job.round(one, other)
    assert "field classes_: expected [0, 1], as in the job's model, got [4, 9]" in str(refused.value)
    assert "classes=[...]" in str(refused.value)


@pytest.mark.parametrize(("mine", "others", "shown"), [
    (["cat", "dog"], ["cat", "fox"], "got ['cat', 'fox']"),
    ([0, 1], [0, 1, 2], "expected [0, 1], as in the job's model, got [0, 1, 2]"),
])  # fmt: skip
def test_classes_of_any_kind_are_compared(mine: list[Any], others: list[Any], shown: str) -> None:
    from sklearn.linear_model import SGDClassifier
    from sklearn.neural_network import MLPClassifier

    for kind in (SGDClassifier, MLPClassifier):
        ours, theirs = (
            adapter_for(kind(random_state=0).partial_fit(x[:2], np.array(each)[:2], classes=np.array(each)))
            for each in (mine, others)
        )
        with pytest.raises(Refused) as refused:
            theirs.set(ours.get())
        assert refused.value.field == "classes_"
        assert shown in str(refused.value)
        own = theirs.get()
        theirs.set({name: own[name] for name in own if not name.startswith("constant:")})  # of an earlier version


def test_columns_in_another_order_are_refused(framework: Any) -> None:
    pandas = framework("pandas")
    from sklearn.linear_model import LinearRegression

    one = pandas.DataFrame({"age": x[:, 0], "height": x[:, 1]})
    ours, theirs = (adapter_for(LinearRegression().fit(each, y)) for each in (one, one[["height", "age"]]))
    with pytest.raises(Refused, match=r"feature_names_in_: .* got \['height', 'age'\]"):
        theirs.set(ours.get())


def test_row_5_an_evaluation_measures_the_global_model(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = PlayedJob(script(tmp_path, """
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.pipeline import make_pipeline
model = make_pipeline(StandardScaler(), SGDClassifier(random_state=0))
model.fit(x, y)  # in an evaluation these are the test samples
def accuracy():
    return model.score(x, y)
for _ in FederatedLearning(model, evaluate=accuracy).rounds():
    pass
"""), tmp_path, monkeypatch)  # fmt: skip
    job.round(digits)
    assert job.evaluate(digits)["accuracy"] > 0.9
    worthless = {
        name: np.zeros_like(array) if "coef" in name or "intercept" in name else array
        for name, array in job.arrays().items()
    }
    job.model = dumps(worthless)
    assert job.evaluate(digits)["accuracy"] < 0.2


class Copies:
    """A model of the user's own whose get() returns copies that set() does not change."""

    def __init__(self) -> None:
        self.weights = np.zeros(3)

    def get(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"w": self.weights * 1.0}

    def set(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.get()["w"][:] = arrays["w"]


class Holds(Copies):
    def set(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.weights = np.array(arrays["w"])


def test_a_set_without_effect_is_refused() -> None:
    from sklearn.linear_model import LinearRegression

    class Computed(LinearRegression):  # type: ignore[misc]
        @property
        def coef_(self) -> Any:
            return np.ones(3)

        @coef_.setter
        def coef_(self, value: Any) -> None: ...

    def given(arrays: Mapping[str, Any], value: float) -> TensorFile:
        return TensorFile(dumps({
            name: array if "constant" in name else np.full_like(array, value) for name, array in arrays.items()
        }))  # fmt: skip

    for model in (Copies(), Computed().fit(x, y)):
        adapter = adapter_for(model)
        with pytest.raises(Refused, match=r"a model whose get\(\) returns what set\(\) wrote"):
            Loader(adapter).load(given(adapter.get(), 5.0))
    loader = Loader(Holds())
    loader.load(given({"w": np.zeros(3)}, 0.0))  # the same as before: proves nothing yet
    loader.load(given({"w": np.zeros(3)}, 2.0))
