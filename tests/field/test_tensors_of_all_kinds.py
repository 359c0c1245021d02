"""Tensors of all kinds: each works, or is refused in one sentence that names the way out (row 6)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.weights_file import dumps
from heliograph.core.errors import Refused
from heliograph.frameworks import adapter_for, buffers_of
from heliograph.frameworks.loading import load
from tests.field.played_job import PlayedJob

Framework = Callable[[str], ModuleType]


@pytest.fixture
def torch(framework: Framework) -> Any:
    return framework("torch")


@pytest.fixture
def play(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | Path], PlayedJob]:
    """Return ``play("script.py")``, which makes a job of one of the user's scripts."""
    return lambda script: PlayedJob(project / script, tmp_path, monkeypatch)


@pytest.mark.parametrize(("kind", "refusal"), [
    ("mask", ""), ("complex", ""), ("expand", ""),
    ("sparse", "persistent=False"), ("quant", "Quantise the global model afterwards"),
    ("qat", "Run one batch through the model before its first round"),
])  # fmt: skip
def test_row_6_a_model_with_an_odd_tensor(
    kind: str, refusal: str, torch: Any, play: Any, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUNT_ODD", kind)
    job = play("torch_odd.py")
    if refusal:
        with pytest.raises(Refused) as refused:
            job.round(digits)
        assert refusal in str(refused.value)
        return
    first = job.round(digits)
    found = job.round(digits, digits)
    odd = {"mask": "mask", "complex": "spec", "expand": "pos"}[kind]
    assert not np.array_equal(found["a.weight"], first["a.weight"])
    if kind == "complex":
        assert found[odd].shape == (64, 2)
        assert not np.array_equal(found[odd], first[odd])  # it is trained
    else:
        assert found[odd].tobytes() == first[odd].tobytes()
        assert odd not in job.sent[0]


def test_row_6_frozen_layers_stay_out_of_the_wire(
    torch: Any, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "train.py"
    script.write_text("""
import numpy as np, torch
from torch import nn
from heliograph import FederatedLearning, dataset
with np.load(dataset()) as file: x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
net = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
net[0].requires_grad_(False)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
for _ in FederatedLearning(net).rounds():
    optimizer.zero_grad(); nn.functional.cross_entropy(net(x), y).backward(); optimizer.step()
""")
    job = PlayedJob(script, tmp_path, monkeypatch)
    first = job.round(digits)
    found = job.round(digits, digits)
    assert {"0.weight", "0.bias"}.isdisjoint(job.sent[0])
    assert {"1.running_mean", "1.num_batches_tracked", "3.weight"} <= job.sent[0].keys()  # these have changed
    assert found["0.weight"].tobytes() == first["0.weight"].tobytes()
    assert not np.array_equal(found["3.weight"], first["3.weight"])
    assert found["1.num_batches_tracked"] == 1


def test_row_6_tied_weights_have_one_average_and_stay_tied(
    torch: Any, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "train.py"
    script.write_text("""
import numpy as np, torch
from torch import nn
from heliograph import FederatedLearning, dataset
with np.load(dataset()) as file: x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(64, 8), nn.Linear(8, 64)
        self.up.weight = nn.Parameter(self.down.weight.data.T.contiguous())
        self.again = nn.Linear(8, 64)
        self.again.weight = self.up.weight
    def forward(self, x): return self.again(self.up(self.down(x)) @ self.up.weight)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), 0.01)
for _ in FederatedLearning(net).rounds():
    assert net.again.weight is net.up.weight
    few = torch.randperm(len(x))[:20]
    optimizer.zero_grad(); ((net(x[few]) - x[few]) ** 2).mean().backward(); optimizer.step()
""")
    job = PlayedJob(script, tmp_path, monkeypatch)
    first = job.round(digits)
    for _ in range(2):
        found = job.round(digits, digits, digits)
        assert found["again.weight"].tobytes() == found["up.weight"].tobytes()
        assert not np.array_equal(found["up.weight"], first["up.weight"])
        first = found


def test_row_6_a_whole_number_beyond_two_to_the_53(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "train.py"
    script.write_text("""
import numpy as np
from heliograph import FederatedLearning
model = {"w": np.zeros(2), "seed": np.array(2**60 + 1), "steps": np.array(2**53)}
for _ in FederatedLearning(model).rounds():
    model["w"] += 1
    model["steps"] += 1
""")
    job = PlayedJob(script, tmp_path, monkeypatch)
    job.round(digits)
    found = job.round(digits, digits, digits)
    assert int(found["seed"]) == 2**60 + 1
    assert int(found["steps"]) == 2**53 + 1


def test_tensors_that_are_a_model_of_their_own(torch: Any, tmp_path: Path) -> None:
    tensors = {"w": torch.zeros(2, 3, requires_grad=True), "n": torch.tensor(2**60 + 1)}
    before = tensors["w"]
    adapter = adapter_for(tensors)
    (tmp_path / "model").write_bytes(dumps({"w": np.ones((2, 3), np.float32), "n": np.array(7)}))
    load(tensors, tmp_path / "model")
    assert tensors["w"] is before and before.tolist() == [[1] * 3] * 2 and int(tensors["n"]) == 7
    assert adapter.get()["n"].dtype == np.int64
    with pytest.raises(Refused, match=r"every value be a torch\.Tensor"):
        adapter_for({"w": torch.zeros(1), "b": np.zeros(1)})
    with pytest.raises(Refused, match="Flatten a nested dict"):
        adapter_for({"layer": {"w": np.zeros(1)}})


def test_tensors_with_memory_of_their_own_kind(torch: Any) -> None:
    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shown", torch.arange(3.0).expand(2, 3))
            self.register_buffer("mirror", torch.tensor([1 + 2j, 3j]).conj())

    net = Net()
    adapter = adapter_for(net)
    given = {name: array + 1 for name, array in adapter.get().items()}
    adapter.set(given)
    assert net.shown.stride() == (0, 1)
    assert net.mirror.tolist() == [2 - 1j, 1 - 2j]
    for name, array in adapter.get().items():
        np.testing.assert_array_equal(array, given[name])
    given["shown"] = np.arange(6, dtype=np.float32).reshape(2, 3)
    with pytest.raises(Refused, match="one value along each expanded dimension"):
        adapter.set(given)


def test_a_complex_array() -> None:
    model = {"spectrum": np.array([1 + 2j, 3j], np.complex64).reshape(2, 1)}
    adapter = adapter_for(model)
    assert adapter.get()["spectrum"].tolist() == [[[1, 2]], [[0, 3]]]
    adapter.set({"spectrum": np.array([[[5, 6]], [[7, 8]]], np.float32)})
    assert model["spectrum"].tolist() == [[5 + 6j], [7 + 8j]]


def test_observers_that_have_seen_data(torch: Any) -> None:
    from torch.ao import quantization

    net = torch.nn.Sequential(quantization.QuantStub(), torch.nn.Linear(2, 2), quantization.DeQuantStub()).train()
    net.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    quantization.prepare_qat(net, inplace=True)
    with pytest.raises(Refused, match="an observer that has seen data"):
        adapter_for(net).set({})
    net(torch.randn(5, 2))
    adapter = adapter_for(net)
    adapter.set(adapter.get())


def test_adapters_of_peft_travel_and_their_base_does_not(torch: Any, framework: Framework) -> None:
    peft = framework("peft")

    def model(seed: int, **more: Any) -> Any:
        torch.manual_seed(seed)
        base = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        return peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0"], **more))

    ours = adapter_for(model(0, modules_to_save=["2"]))
    names = {name for name in ours.get() if not name.startswith("constant:")}
    assert {name.rpartition("model.")[2] for name in names} == {"0.lora_A.weight", "0.lora_B.weight", "2.weight",
                                                                 "2.bias"}  # fmt: skip
    given = {name: array if "constant" in name else array + 1 for name, array in ours.get().items()}
    ours.set(given)
    for name, array in ours.get().items():
        np.testing.assert_array_equal(array, given[name])
    frozen = model(0)
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)  # as in an evaluation: what travels does not depend on it
    assert adapter_for(frozen).get().keys() == adapter_for(model(0)).get().keys()
    with pytest.raises(Refused, match=r"field base: .*another base under the adapter"):
        adapter_for(model(1)).set(adapter_for(model(0)).get())


def test_buffers_of_a_layer_that_is_trained_beside_an_adapter_of_peft(torch: Any, framework: Framework) -> None:
    peft = framework("peft")
    base = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0"], modules_to_save=["1"]))
    adapter = adapter_for(model)
    found = buffers_of(adapter)
    assert {name.rpartition("model.")[2] for name in found} == {
        "1.running_mean", "1.running_var", "1.num_batches_tracked"
    }  # fmt: skip
    assert found < adapter.get().keys()
    compiled = adapter_for(torch.compile(model))
    assert (compiled.get().keys(), buffers_of(compiled)) == (adapter.get().keys(), found)
