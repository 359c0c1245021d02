"""FederatedLearning in a user's script: outside a job, and with a session that plays the worker."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import heliograph
from heliograph import FederatedLearning, session
from heliograph.bus.contract import weights_file as tensors
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.core.errors import HeliographError, Refused
from heliograph.federated import Round
from heliograph.session import Work

EXAMPLES = Path(__file__).parents[2] / "examples"


class Own:
    """A model of a framework of its own."""

    def get(self) -> dict[str, Any]:
        return {}

    def set(self, arrays: Any) -> None: ...


class FakeSession:
    """A session that returns the given works and records the updates sent."""

    edge = "edge-1"
    job = "digits"
    dataset: Path | None = Path("/data/digits.npz")
    dataset_samples = 40

    def __init__(self, *works: Work) -> None:
        self.works = list(works)
        self.parameters: dict[str, Any] = {"lr": 0.1, "epochs": 1}
        self.updates: list[tuple[dict[str, np.ndarray[Any, Any]], int, dict[str, float]]] = []
        self.left: list[tuple[dict[str, np.ndarray[Any, Any]], int, dict[str, float]]] = []
        self.evaluations: list[tuple[dict[str, float], int]] = []

    def begin_rounds(self, rounds: Iterator[Any]) -> None:
        return None

    def next_work(self) -> Work | None:
        return self.works.pop(0) if self.works else None

    def send_update(self, trained: session.Trained) -> None:
        self.updates.append((dict(trained.arrays), trained.num_samples, trained.metrics))

    def leave(self, trained: session.Trained) -> None:
        self.left.append((dict(trained.arrays), trained.num_samples, trained.metrics))

    def send_evaluation(self, metrics: dict[str, float], num_samples: int) -> None:
        self.evaluations.append((metrics, num_samples))


@pytest.fixture(autouse=True)
def no_session_stays() -> Iterator[None]:
    yield
    session.current = None


def in_job(*works: Work) -> FakeSession:
    session.current = fake = FakeSession(*works)
    return fake


def file(tmp_path: Path, **arrays: np.ndarray[Any, Any]) -> TensorFile:
    path = tmp_path / "global.safetensors"
    path.write_bytes(tensors.dumps(arrays))
    return TensorFile(path)


def model() -> dict[str, np.ndarray[Any, Any]]:
    return {"w": np.zeros(3, np.float32)}


def test_outside_a_job_it_trains_the_local_rounds_and_keeps_their_metrics() -> None:
    fl = FederatedLearning(Own())
    seen = []
    for r in fl.rounds(local=3):
        seen.append((r.number, r.local, r.parameters))
        r.report(loss=1 / r.number)
    assert seen == [(1, True, {}), (2, True, {}), (3, True, {})]
    assert fl.history == [{"loss": 1.0}, {"loss": 0.5}, {"loss": 1 / 3}]
    assert heliograph.dataset() is None
    assert heliograph.parameters() == {}


def test_outside_a_job_it_evaluates_after_each_round() -> None:
    trained: list[Round] = []
    fl = FederatedLearning(Own(), evaluate=lambda: len(trained) / 10)
    for r in fl.rounds(local=2):
        trained.append(r)
        r.report(loss=5)
    assert fl.history == [{"loss": 5.0, "accuracy": 0.1}, {"loss": 5.0, "accuracy": 0.2}]


def test_outside_a_job_a_break_keeps_the_reported_metrics() -> None:
    fl = FederatedLearning(Own())
    for r in fl.rounds(local=10):
        r.report(loss=0.01)
        break
    assert fl.history == [{"loss": 0.01}]


def test_outside_a_job_neither_numpy_nor_a_transport_is_imported() -> None:
    code = (
        "import sys; from heliograph import FederatedLearning\n"
        "class Own:\n"
        "    def get(self): return {}\n"
        "    def set(self, arrays): ...\n"
        "for r in FederatedLearning(Own()).rounds(local=2): r.report(loss=1.0)\n"
        "heavy = {'numpy', 'nats', 'aiomqtt', 'torch', 'keras', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_job_from_initial_weights_to_its_end(tmp_path: Path) -> None:
    weights = file(tmp_path, w=np.array([1, 2, 3], np.float32))
    last = TensorFile(tensors.dumps({"w": np.array([7, 8, 9], np.float32)}))
    fake = in_job(
        Work("initialise", "digits", 0),
        Work("train", "digits", 4, weights, {"epochs": 2}),
        Work("evaluate", "digits", 4, last),
    )
    own = model()
    array = own["w"]
    fl = FederatedLearning(own, evaluate=lambda: {"accuracy": 0.5, "mean": float(own["w"].mean())})
    rounds = []
    for r in fl.rounds(local=100):
        rounds.append((r.number, r.local, r.parameters))
        assert array.tolist() == [1, 2, 3]
        array += 1
        r.report(loss=np.float32(0.25))
    assert rounds == [(4, False, {"lr": 0.1, "epochs": 2})]
    (first, samples, metrics), (second, _, reported) = fake.updates
    assert (first["w"].tolist(), samples, metrics) == ([0, 0, 0], 40, {})
    assert (second["w"].tolist(), reported) == ([2, 3, 4], {"loss": 0.25})
    assert fake.evaluations == [({"accuracy": 0.5, "mean": 8.0}, 40)]
    assert array.tolist() == [7, 8, 9]
    assert fl.history == [{"loss": 0.25}]
    with pytest.raises(ValueError, match="released"):
        weights.data.tobytes()


def test_a_job_gives_its_data_set_and_parameters() -> None:
    fake = in_job()
    assert heliograph.dataset() == fake.dataset
    assert heliograph.parameters() == {"lr": 0.1, "epochs": 1}
    heliograph.parameters()["lr"] = 9
    assert fake.parameters["lr"] == 0.1


def test_a_body_that_breaks_leaves_with_its_update() -> None:
    fake = in_job(Work("train", "digits", 1), Work("train", "digits", 2))
    own = model()
    for r in FederatedLearning(own).rounds():
        own["w"] += 1
        r.report(loss=0.5)
        if r.number == 2:
            break
    assert len(fake.updates) == 1
    [(arrays, samples, metrics)] = fake.left
    assert (arrays["w"].tolist(), samples, metrics) == ([2, 2, 2], 40, {"loss": 0.5})


def test_a_body_that_raises_sends_nothing() -> None:
    fake = in_job(Work("train", "digits", 1))
    with pytest.raises(ZeroDivisionError):
        for _ in FederatedLearning(model()).rounds():
            _ = 1 / 0
    assert fake.updates == []


def test_num_samples_of_the_script_overrides_the_data_sets() -> None:
    fake = in_job(Work("train", "digits", 1))
    list(FederatedLearning(model(), num_samples=np.int64(7)).rounds())  # type: ignore[arg-type]
    assert fake.updates[0][1] == 7


@pytest.mark.parametrize("count", [0, -1, 1.5, "7"])
def test_an_invalid_num_samples_is_refused_at_once(count: Any) -> None:
    with pytest.raises(Refused, match="num_samples"):
        FederatedLearning(model(), num_samples=count)


def test_the_error_for_a_missing_num_samples_names_the_missing_argument() -> None:
    fake = in_job(Work("train", "digits", 1))
    fake.dataset_samples = 0
    with pytest.raises(Refused, match=r"num_samples=len\(data\)"):
        list(FederatedLearning(model()).rounds())


def test_the_error_for_a_missing_evaluate_names_the_missing_argument() -> None:
    fake = in_job(Work("evaluate", "digits", 1))
    with pytest.raises(HeliographError, match="evaluate=accuracy"):
        list(FederatedLearning(model()).rounds())
    assert fake.evaluations == []


def test_weights_of_another_model_are_refused_and_change_nothing(tmp_path: Path) -> None:
    fake = in_job(Work("train", "digits", 1, file(tmp_path, w=np.ones((3, 2), np.float32))))
    own = model()
    with pytest.raises(Refused, match=r"field w: expected shape \(3,\), got shape \(3, 2\)"):
        list(FederatedLearning(own).rounds())
    assert own["w"].tolist() == [0, 0, 0]
    assert fake.updates == []


def test_bfloat16_weights_of_the_job_are_read_as_floats() -> None:
    values = np.array([1.5, -2.0, 0.25], np.float32)
    bits = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    weights = TensorFile(tensors.header({"w": ("BF16", (3,), 6)}) + bits)
    in_job(Work("evaluate", "digits", 1, weights))
    own = model()
    list(FederatedLearning(own, evaluate=lambda: 1.0).rounds())
    assert own["w"].tolist() == values.tolist()


def test_a_model_of_an_unknown_kind_is_refused() -> None:
    in_job(Work("initialise", "digits", 0))
    with pytest.raises(Refused, match=r"expected a torch\.nn\.Module"):
        list(FederatedLearning(object()).rounds())


@pytest.mark.parametrize("name", ["sklearn", "torch", "keras"])
def test_an_example_takes_part_in_a_job(name: str, framework: Callable[[str], ModuleType], tmp_path: Path) -> None:
    framework(name)
    framework("sklearn")
    from sklearn.datasets import load_digits

    class Alone(FakeSession):
        """A job of one participant: each update becomes the next global model, and the last is evaluated."""

        rounds = 0

        def next_work(self) -> Work | None:
            self.rounds += 1
            if self.rounds == 1:
                return Work("initialise", self.job, 0)
            weights = TensorFile(tensors.dumps(self.updates[-1][0]))
            kinds = {2: "train", 3: "train", 4: "evaluate"}
            kind = kinds.get(self.rounds)
            return Work(kind, self.job, self.rounds - 1, weights) if kind else None  # type: ignore[arg-type]

    x, y = load_digits(return_X_y=True)
    session.current = fake = Alone()
    fake.dataset, fake.dataset_samples = tmp_path / "digits.npz", len(y)
    np.savez(fake.dataset, x=(x / 16).astype(np.float32), y=y.astype(np.int64))
    runpy.run_path(str(EXAMPLES / f"{name}_digits.py"), run_name="__main__")
    assert [samples for _, samples, _ in fake.updates] == [len(y)] * 3
    [(metrics, samples)] = fake.evaluations
    assert 0 < metrics["accuracy"] <= 1
    assert samples == len(y)


def test_arrays_beside_the_model_are_read_and_attached_ones_are_sent(tmp_path: Path) -> None:
    (tmp_path / "down").write_bytes(tensors.dumps({"control:w": np.full(3, 2, np.float32), "step": np.array(4)}))
    first = Work("train", "digits", 1, file(tmp_path, **model()))
    second = Work("train", "digits", 2, file(tmp_path, **model()), down=TensorFile(tmp_path / "down"))
    job = in_job(first, second)
    downs = []
    for r in FederatedLearning(model()).rounds():
        downs.append(r.down)
        r.attach(control={"w": np.full(3, r.number, np.float32)})
    assert downs[0] == {}
    assert downs[1]["step"] == 4
    np.testing.assert_array_equal(downs[1]["control:w"], [2, 2, 2])
    for number, (arrays, _, _) in enumerate(job.updates, 1):
        assert set(arrays) == {"w", "control:w"}
        np.testing.assert_array_equal(arrays["control:w"], np.full(3, number))


def test_alone_nothing_comes_down_and_attaching_does_no_harm() -> None:
    for r in FederatedLearning(Own()).rounds():
        assert r.down == {}
        r.attach(control={"w": np.zeros(3)})
