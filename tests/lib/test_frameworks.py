"""The adapter of each framework: weights round-trip in place; the error names the array that does not fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import weights_file as tensors
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.core.errors import Refused
from heliograph.frameworks import ModelAdapter, adapter_for, buffers_of
from tests.lib.adapter_checks import (
    Arrays,
    Framework,
    assert_refuses,
    assert_same,
    assert_sets_in_place_and_copies,
    read_only,
)


class TestArrays:
    def test_written_in_place(self) -> None:
        model = {"w": np.zeros((2, 3), np.float32).T, "steps": np.array(4)}
        before_set = model["w"]
        wanted = assert_sets_in_place_and_copies(adapter_for(model))
        assert model["w"] is before_set
        np.testing.assert_array_equal(before_set, wanted["w"])

    def test_a_wider_float_fits_and_another_kind_does_not(self) -> None:
        model = {"w": np.zeros(2, np.float32)}
        adapter_for(model).set({"w": np.array([1, 2], np.float64)})
        assert model["w"].dtype == np.float32
        assert model["w"].tolist() == [1, 2]
        assert_refuses(adapter_for(model), "w")

    def test_values_that_cannot_be_written_in_place_are_refused(self) -> None:
        with pytest.raises(Refused, match=r"model\['b'\]"):
            adapter_for({"w": np.zeros(1), "b": 0.0})
        with pytest.raises(Refused, match="read-only"):
            adapter_for(read_only({"w": np.zeros(2)})).set({"w": np.ones(2)})


class TestChoice:
    def test_no_framework_is_imported(self) -> None:
        code = (
            "import sys; from heliograph.frameworks import adapter_for; import numpy\n"
            "adapter_for({'w': numpy.zeros(1)}).get()\n"
            "heavy = {'torch', 'keras', 'tensorflow', 'sklearn', 'jax', 'flax'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def test_an_object_with_get_and_set_is_returned_unchanged(self) -> None:
        class Own:
            def get(self) -> Arrays:
                return {}

            def set(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None: ...

        own = Own()
        assert adapter_for(own) is own

    def test_any_other_object_is_refused_by_its_type(self) -> None:
        with pytest.raises(Refused, match=r"got builtins\.list"):
            adapter_for([np.zeros(1)])


class TestBuffersOfOwnAdapters:
    """An adapter of the user's may tell its buffers, and need not."""

    class Own:
        def get(self) -> Arrays:
            return {"w": np.zeros(2), "seen": np.array(3)}

        def set(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None: ...

    def telling(self, told: Any) -> ModelAdapter:
        own = self.Own()
        own.buffers = lambda: told  # type: ignore[attr-defined]
        return own

    def test_none_unless_it_tells(self) -> None:
        assert buffers_of(adapter_for(self.Own())) == frozenset()
        assert buffers_of(adapter_for({"w": np.zeros(1), "n": np.array(1)})) == frozenset()
        assert buffers_of(adapter_for(self.telling({"seen"}))) == frozenset({"seen"})

    def test_what_are_no_names_of_weights_is_refused(self) -> None:
        for told in (["seen"], {1}, "seen", None):
            with pytest.raises(Refused, match=r"field model: buffers\(\): expected a set of names"):
                buffers_of(self.telling(told))


class TestSklearn:
    x = np.random.default_rng(0).normal(size=(60, 4))
    y = np.arange(60) % 3

    @pytest.fixture(autouse=True)
    def _needs_sklearn(self, framework: Framework) -> None:
        framework("sklearn")

    def test_sgd_trains_on_from_the_weights_set(self) -> None:
        from sklearn.linear_model import SGDClassifier

        for settings in ({}, {"average": True}):
            for classes in (2, 3):
                model = SGDClassifier(learning_rate="constant", eta0=1e-9, random_state=0, alpha=0.0, **settings)
                model.partial_fit(self.x, self.y % classes, classes=np.arange(classes))
                wanted = assert_sets_in_place_and_copies(adapter_for(model))
                model.partial_fit(self.x, self.y % classes)
                for name, array in adapter_for(model).get().items():  # such a small rate hardly moves the weights
                    np.testing.assert_allclose(array, wanted[name], atol=1e-5)
                assert_refuses(adapter_for(model), "coef_")

    def test_mlp(self) -> None:
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier((5,), random_state=0).partial_fit(self.x, self.y, classes=[0, 1, 2])
        wanted = assert_sets_in_place_and_copies(adapter_for(model))
        assert sorted(wanted) == ["coefs_/0", "coefs_/1", "constant:classes_", "intercepts_/0", "intercepts_/1"]
        before_set = model.coefs_[0].copy()
        model.partial_fit(self.x, self.y)
        assert 0 < np.abs(model.coefs_[0] - before_set).max() < 0.1
        assert_refuses(adapter_for(model), "coefs_/1")

    def test_logistic_regression_with_warm_start(self) -> None:
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(warm_start=True).fit(self.x, self.y)
        wanted = assert_sets_in_place_and_copies(adapter_for(model))
        scores = self.x @ wanted["coef_"].T + wanted["intercept_"]
        np.testing.assert_allclose(model.decision_function(self.x), scores)

    def test_an_intercept_that_is_a_number(self) -> None:
        from sklearn.linear_model import LinearRegression

        model = LinearRegression(fit_intercept=False).fit(self.x, self.y)
        assert_sets_in_place_and_copies(adapter_for(model))
        assert model.intercept_ == 1.0

    def test_no_buffers(self) -> None:
        from sklearn.linear_model import SGDClassifier

        model = SGDClassifier().partial_fit(self.x, self.y, classes=[0, 1, 2])
        assert buffers_of(adapter_for(model)) == frozenset()

    def test_the_error_for_an_unfitted_estimator_names_the_call_to_make(self) -> None:
        from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor

        with pytest.raises(Refused, match=r"partial_fit\(x\[:1\], y\[:1\], classes=\.\.\.\) once"):
            adapter_for(SGDClassifier()).get()
        with pytest.raises(Refused, match=r"partial_fit\(x\[:1\], y\[:1\]\) once"):
            adapter_for(SGDRegressor()).set({})
        with pytest.raises(Refused, match="once with warm_start=True"):
            adapter_for(LogisticRegression(warm_start=True)).get()


class TestTorch:
    @pytest.fixture(autouse=True)
    def _needs_torch(self, framework: Framework) -> None:
        framework("torch")

    def network(self) -> Any:
        import torch
        from torch import nn

        class Network(nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.embed = nn.Embedding(6, 4)
                self.low = nn.Linear(4, 4, dtype=torch.bfloat16)
                self.norm = nn.BatchNorm1d(4)
                self.head = nn.Linear(4, 6, bias=False)
                self.head.weight = self.embed.weight  # tied
                self.scale = nn.Parameter(torch.tensor(2.0))  # 0-dim
                self.turned = nn.Parameter(torch.arange(6.0).reshape(2, 3).T)  # not contiguous
                self.register_buffer("mask", torch.tensor([True, False]))

            def get_extra_state(self) -> object:
                return {"anything": object()}

            def set_extra_state(self, state: object) -> None: ...

        return Network()

    def test_parameters_and_buffers_in_place(self) -> None:
        import torch

        model = self.network()
        before_set = {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if "extra" not in name}
        adapter = adapter_for(model)
        arrays = adapter.get()
        assert arrays.keys() == before_set.keys()
        assert arrays["low.weight"].dtype == np.float32
        assert arrays["norm.num_batches_tracked"].dtype == np.int64
        assert arrays["scale"].shape == ()
        wanted = read_only({
            name: ~array if array.dtype == bool else (np.ceil(array) + 1).astype(array.dtype)
            for name, array in arrays.items()
        })  # fmt: skip
        adapter.set(wanted)
        assert_same(adapter.get(), wanted)
        for name, tensor in model.state_dict(keep_vars=True).items():
            assert "extra" in name or tensor is before_set[name]
        assert model.head.weight is model.embed.weight
        assert model.low.weight.dtype == torch.bfloat16
        assert model.turned.stride() == (1, 3)
        assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())

    def test_misfits_are_refused(self) -> None:
        import torch

        adapter = adapter_for(torch.nn.Linear(3, 2))
        assert_sets_in_place_and_copies(adapter)
        assert_refuses(adapter, "weight")

    def test_an_optimizer_goes_on_from_the_weights_set(self) -> None:
        import torch

        model = torch.nn.Linear(1, 1, bias=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        adapter_for(model).set({"weight": np.full((1, 1), 5, np.float32)})
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        assert adapter_for(model).get()["weight"] == 4.0

    def test_a_compiled_module_has_the_names_of_the_original(self) -> None:
        import torch

        model = torch.nn.Linear(3, 2)
        assert adapter_for(torch.compile(model)).get().keys() == {"weight", "bias"}
        pair = torch.nn.Sequential(torch.compile(torch.nn.BatchNorm1d(2)), model)
        assert {"0.weight", "0.running_mean", "1.bias"} < adapter_for(pair).get().keys()
        assert buffers_of(adapter_for(pair)) == {"0.running_mean", "0.running_var", "0.num_batches_tracked"}
        adapter_for(pair).set({name: np.ones_like(array) for name, array in adapter_for(pair).get().items()})
        assert all((array == 1).all() for array in adapter_for(pair).get().values())

    def test_tensors_of_a_gpu_are_copied_from_it_and_to_it(self) -> None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device: tensors of a GPU are not tested here")
        model = self.network().to("cuda")
        before_set = dict(model.state_dict(keep_vars=True))
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        adapter = adapter_for(model)
        wanted = {name: ~array if array.dtype == bool else (np.ceil(array) + 1).astype(array.dtype)
                  for name, array in adapter.get().items()}  # fmt: skip
        adapter.set(wanted)
        assert_same(adapter.get(), wanted)
        for name, tensor in model.state_dict(keep_vars=True).items():
            assert "extra" in name or (tensor is before_set[name] and tensor.is_cuda)
        model.head(model.norm(model.embed(torch.tensor([0, 1], device="cuda")))).sum().backward()
        optimizer.step()
        assert not np.array_equal(adapter.get()["embed.weight"], wanted["embed.weight"])
        assert_same({"w": adapter.get()["embed.weight"]}, {"w": adapter.get()["head.weight"]})

    def test_buffers_are_what_no_optimizer_writes(self) -> None:
        import torch

        norm = {f"norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
        model = self.network()
        assert buffers_of(adapter_for(model)) == norm | {"mask"}  # both names of the tied weight are of a parameter
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        assert buffers_of(adapter_for(model)) == norm | {"mask"}  # frozen ones are none
        assert buffers_of(adapter_for(torch.compile(model))) == norm | {"mask"}
        assert buffers_of(adapter_for(torch.nn.Linear(2, 2))) == frozenset()

    def test_buffers_of_parts(self) -> None:
        import torch

        linear = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2))
        untracked = torch.nn.BatchNorm1d(2, track_running_stats=False)
        part = torch.nn.Sequential(linear, untracked, torch.nn.BatchNorm1d(2))
        part[0].register_buffer("kept_here", torch.zeros(1), persistent=False)
        assert buffers_of(adapter_for(part)) == {"2.running_mean", "2.running_var", "2.num_batches_tracked"}

    def test_buffers_of_a_dict_of_tensors_have_no_gradient_where_others_have(self) -> None:
        import torch

        weight = torch.zeros(2, requires_grad=True)
        assert buffers_of(adapter_for({"w": weight, "mean": torch.zeros(2)})) == {"mean"}
        assert buffers_of(adapter_for({"w": weight.detach(), "mean": torch.zeros(2)})) == frozenset()

    def test_the_error_for_a_lazy_module_names_the_remedy(self) -> None:
        import torch

        with pytest.raises(Refused, match="Run one batch"):
            adapter_for(torch.nn.LazyLinear(2)).get()
        with pytest.raises(Refused, match="meta device"):
            adapter_for(torch.nn.Linear(2, 2, device="meta")).get()

    def test_weights_round_trip_through_a_file(self) -> None:
        model, other = self.network(), self.network()
        with TensorFile(tensors.dumps(adapter_for(model).get())) as file:
            adapter_for(other).set(file.arrays())
        assert_same(adapter_for(other).get(), adapter_for(model).get())


class TestKeras:
    @pytest.fixture(autouse=True)
    def _needs_keras(self, framework: Framework) -> None:
        framework("keras")

    def network(self, **settings: Any) -> Any:
        import keras

        layers = [keras.Input((4,)), keras.layers.Dense(5), keras.layers.BatchNormalization(),
                  keras.layers.Dropout(0.5), keras.layers.Dense(3, **settings)]  # fmt: skip
        return keras.Sequential(layers)

    def test_weights_in_place_while_compiled(self) -> None:
        model = self.network()
        model.compile("sgd", "mse")
        model.optimizer.learning_rate = 0.0
        x, y = np.ones((8, 4), np.float32), np.ones((8, 3), np.float32)
        model.fit(x, y, verbose=0)
        before_set = list(model.weights)
        wanted = assert_sets_in_place_and_copies(adapter_for(model))
        assert all(left is right for left, right in zip(before_set, model.weights, strict=True))
        model.fit(x, y, verbose=0)  # the train step, traced earlier, sees the new weights
        np.testing.assert_array_equal(adapter_for(model).get()["sequential/dense/kernel"],
                                      wanted["sequential/dense/kernel"])  # fmt: skip
        assert_refuses(adapter_for(model), "sequential/dense/kernel")
        before = adapter_for(model).get()
        kept = {name: array.copy() for name, array in before.items()}
        model.optimizer.learning_rate = 1.0
        model.fit(x, y, verbose=0)
        assert_same(before, kept)
        after = adapter_for(model).get()
        assert not np.array_equal(after["sequential/dense/kernel"], kept["sequential/dense/kernel"])

    def test_names_do_not_depend_on_earlier_models_of_the_process(self) -> None:
        first, second = self.network(), self.network()
        assert first.weights[0].path != second.weights[0].path
        names = adapter_for(first).get().keys()
        assert names == adapter_for(second).get().keys()
        assert {"sequential/dense/kernel", "sequential/dense_1/bias"} <= names

    def test_layers_that_share_a_name_and_a_tied_layer(self) -> None:
        import keras

        class Pair(keras.Model):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.one = keras.layers.Dense(2, name="d")
                self.two = keras.layers.Dense(2, name="d")
                self.again = self.one

            def call(self, x: Any) -> Any:
                return self.again(self.two(self.one(x)))

        model = Pair()
        with pytest.raises(Refused, match="not built yet"):
            adapter_for(model).get()
        model(np.ones((1, 2), np.float32))
        assert len(assert_sets_in_place_and_copies(adapter_for(model))) == 4

    def test_bfloat16_travels_as_float32(self) -> None:
        model = self.network(dtype="bfloat16")
        adapter = adapter_for(model)
        arrays = adapter.get()
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
        wanted = read_only({name: np.ceil(array) + 1 for name, array in arrays.items()})
        adapter.set(wanted)
        assert_same(adapter.get(), wanted)
        assert model.weights[-1].dtype == "bfloat16"

    def test_buffers_are_what_no_optimizer_writes(self) -> None:
        moving = {f"sequential/batch_normalization/moving_{name}" for name in ("mean", "variance")}
        model = self.network()
        assert buffers_of(adapter_for(model)) == moving
        model.layers[0].trainable = False
        model.layers[1].trainable = False
        assert len(model.non_trainable_weights) > 2
        assert buffers_of(adapter_for(model)) == moving  # frozen kernels are none
        model.trainable = False
        assert buffers_of(adapter_for(model)) == moving

    def test_buffers_within_nested_models(self) -> None:
        import keras

        inner = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(2)])
        inner.layers[1].enable_lora(1)  # freezes the kernel
        counted = keras.layers.Normalization()
        counted.adapt(np.ones((3, 4), np.float32))
        model = keras.Sequential([keras.Input((4,)), counted, inner, keras.layers.Dropout(0.5)])
        names = buffers_of(adapter_for(model))
        assert {name.rpartition("/")[2] for name in names} >= {"moving_mean", "moving_variance", "mean", "variance"}
        assert not {name.rpartition("/")[2] for name in names} & {"kernel", "bias", "gamma", "lora_kernel_a"}

    def test_a_quantised_model_is_refused(self) -> None:
        model = self.network()
        model.quantize("int8")
        with pytest.raises(Refused, match="Quantise the global model"):
            adapter_for(model).get()

    def test_the_weights_outlive_their_file(self) -> None:
        model = self.network()
        arrays = {name: np.full_like(array, 3) for name, array in adapter_for(model).get().items()}
        memory = bytearray(tensors.dumps(arrays))
        with TensorFile(memory) as file:  # type: ignore[arg-type]
            adapter_for(model).set(file.arrays())
        memory[:] = bytes(len(memory))
        assert_same(adapter_for(model).get(), arrays)


def test_torch_and_keras_work_in_one_process(framework: Framework) -> None:
    torch, keras = framework("torch"), framework("keras")
    one, other = torch.nn.Linear(2, 2), keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    for _ in range(3):
        torch.nn.functional.mse_loss(one(torch.ones(4, 2)), torch.zeros(4, 2)).backward()
        other.compile("sgd", "mse")
        other.fit(np.ones((4, 2), np.float32), np.zeros((4, 2), np.float32), verbose=0)
    assert_sets_in_place_and_copies(adapter_for(one))
    assert_sets_in_place_and_copies(adapter_for(other))
