"""Models of JAX: a dict that holds trees of arrays, and modules of Flax's NNX."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.weights_file import dumps
from heliograph.core.errors import Refused
from heliograph.frameworks import adapter_for, buffers_of
from heliograph.frameworks.loading import load
from tests.lib.adapter_checks import Framework, assert_refuses, assert_same, read_only

Layer = namedtuple("Layer", ["kernel", "bias"])


@pytest.fixture
def jax(framework: Framework) -> Any:
    return framework("jax")


def plus_one(arrays: Any) -> Any:
    return read_only({name: (np.ceil(array) + 1).astype(array.dtype) for name, array in arrays.items()})


class TestTrees:
    def tree(self, jax: Any) -> Any:
        jnp = jax.numpy

        @jax.tree_util.register_dataclass
        @dataclass
        class Block:
            weight: Any
            low: Any

        block = Block(jnp.ones((2, 3)), jnp.array([1.5, 2.5], jnp.bfloat16))
        return {"params": {"layers": [Layer(jnp.arange(4.0), jnp.zeros(())), block], "steps": jnp.array(3),
                           "mask": jnp.array([True, False]), "scale": np.array([1.0, 2.0])},
                "spectrum": jnp.array([1 + 2j, 3j], jnp.complex64)}  # fmt: skip

    def test_arrays_are_named_by_their_place_and_replaced(self, jax: Any) -> None:
        model = self.tree(jax)
        before_set = model["params"]
        adapter = adapter_for(model)
        arrays = adapter.get()
        assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
            "params/layers/0/kernel": ("float32", (4,)),
            "params/layers/0/bias": ("float32", ()),
            "params/layers/1/weight": ("float32", (2, 3)),
            "params/layers/1/low": ("float32", (2,)),
            "params/mask": ("bool", (2,)),
            "params/scale": ("float64", (2,)),
            "params/steps": ("int32", ()),
            "spectrum": ("float32", (2, 2)),
        }
        wanted = plus_one(arrays)
        adapter.set(wanted)
        assert_same(adapter.get(), wanted)
        layer, block = model["params"]["layers"]
        assert isinstance(layer, Layer) and type(block) is type(before_set["layers"][1])
        assert block.low.dtype == jax.numpy.bfloat16 and isinstance(layer.kernel, jax.Array)
        assert isinstance(model["params"]["scale"], np.ndarray)
        assert before_set["layers"][0].kernel.tolist() == [0, 1, 2, 3]  # JAX's arrays have not changed

    def test_misfits_are_refused_and_change_nothing(self, jax: Any) -> None:
        model = self.tree(jax)
        held = dict(model)
        adapter = adapter_for(model)
        assert_refuses(adapter, "params/layers/1/weight")
        assert all(model[name] is held[name] for name in held)

    def test_what_jax_knows_and_no_array_is_stays(self, jax: Any) -> None:
        key = jax.random.key(0)
        model = {"params": {"w": jax.numpy.zeros(2), "activation": jax.nn.relu, "name": "a", "p": 0.5, "none": None,
                            "key": key}}  # fmt: skip
        adapter = adapter_for(model)
        assert adapter.get().keys() == {"params/w"}
        adapter.set({"params/w": np.ones(2, np.float32)})
        left = model["params"]
        assert (left["activation"], left["name"], left["p"], left["none"]) == (jax.nn.relu, "a", 0.5, None)
        assert left["key"] is key

    def test_an_array_goes_where_the_script_placed_it(self, jax: Any) -> None:
        place = jax.sharding.NamedSharding(jax.make_mesh((1,), ("data",)), jax.sharding.PartitionSpec("data"))
        model = {"params": {"placed": jax.device_put(jax.numpy.zeros(2), place), "free": jax.numpy.zeros(2)}}
        adapter = adapter_for(model)
        adapter.set({"params/placed": np.ones(2), "params/free": np.ones(2)})
        assert model["params"]["placed"].sharding == place
        assert model["params"]["placed"].committed and not model["params"]["free"].committed

    def test_the_weights_outlive_their_file(self, jax: Any, tmp_path: Path) -> None:
        model = {"params": {"w": jax.numpy.zeros(4096)}}
        (tmp_path / "model").write_bytes(dumps({"params/w": np.full(4096, 3, np.float32)}))
        load(model, tmp_path / "model")
        assert model["params"]["w"].tolist() == [3] * 4096
        memory = np.zeros(4096 + 16, np.float32)
        given = memory[-memory.ctypes.data % 64 // 4 :][:4096]  # so aligned, JAX would take the memory itself
        given[:] = 5
        adapter_for(model).set({"params/w": given})
        given[:] = 0
        assert model["params"]["w"].tolist() == [5] * 4096

    def test_buffers_are_flaxs_statistics(self, jax: Any) -> None:
        zeros = jax.numpy.zeros(2)
        variables = {"params": {"norm": {"scale": zeros}}, "batch_stats": {"norm": {"mean": zeros, "var": zeros}}}
        names = {"batch_stats/norm/mean", "batch_stats/norm/var"}
        assert buffers_of(adapter_for(variables)) == names
        assert buffers_of(adapter_for({"model": variables})) == {f"model/{name}" for name in names}
        assert buffers_of(adapter_for({"params": {"w": zeros}})) == frozenset()


class TestWhatIsRefused:
    def test_donated_arrays(self, jax: Any) -> None:
        model = {"params": {"w": jax.numpy.ones(2)}}
        adapter = adapter_for(model)
        jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)(model["params"])
        with pytest.raises(Refused, match=r"field params/w: .*memory was donated.*Write what was trained back"):
            adapter.get()

    def test_a_tree_without_a_dict_that_can_change(self, jax: Any, framework: Framework) -> None:
        flax = framework("flax")
        tree = {"w": jax.numpy.zeros(1)}
        with pytest.raises(Refused, match=r"a FrozenDict, which cannot change.*Pass \{\"params\": params\}"):
            adapter_for(flax.core.freeze({"params": tree}))
        for bare in ([tree], Layer(tree, tree), flax.linen.Dense(2)):
            with pytest.raises(Refused, match=r"pass a dict that holds the tree of them, \{\"params\": params\}"):
                adapter_for(bare)

    def test_an_object_that_jax_does_not_see_into(self, jax: Any) -> None:
        class Unknown:
            def __init__(self) -> None:
                self.weight = jax.numpy.zeros(1)

        with pytest.raises(Refused, match=r"field params/1: .*an Unknown|a Unknown, which JAX takes for a leaf"):
            adapter_for({"params": [jax.numpy.zeros(1), Unknown()]}).get()

    def test_two_arrays_of_one_name_a_number_as_name_and_quantised_ones(self, jax: Any) -> None:
        zeros = jax.numpy.zeros(1)
        with pytest.raises(Refused, match=r"field params/a/b: expected one array of this name, got two"):
            adapter_for({"params": {"a": {"b": zeros}, "a/b": zeros}}).get()
        with pytest.raises(Refused, match=r"field model\[1\]: expected a text"):
            adapter_for({1: zeros})
        with pytest.raises(Refused, match=r"quantised ones \(int4\)"):
            adapter_for({"w": jax.numpy.zeros(2, jax.numpy.int4)}).get()


class TestNnx:
    def network(self, framework: Framework) -> Any:
        framework("flax")
        from flax import nnx

        class Network(nnx.Module):  # type: ignore[misc]
            def __init__(self, rngs: Any) -> None:
                self.first = nnx.Linear(3, 4, rngs=rngs, param_dtype="bfloat16")
                self.norm = nnx.BatchNorm(4, rngs=rngs)
                self.drop = nnx.Dropout(0.5, rngs=rngs)
                self.more = nnx.List([nnx.Linear(4, 2, use_bias=False, rngs=rngs)])
                self.tied = self.more[0]
                self.seen = nnx.Intermediate((1, 2))

            def __call__(self, x: Any) -> Any:
                return self.tied(self.drop(self.norm(self.first(x))))

        return Network(nnx.Rngs(0))

    def test_variables_in_place(self, jax: Any, framework: Framework) -> None:
        model = self.network(framework)
        model(jax.numpy.ones((2, 3)))
        kernel = model.more[0].kernel
        adapter = adapter_for(model)
        arrays = adapter.get()
        assert arrays.keys() == {"first/kernel", "first/bias", "norm/scale", "norm/bias", "norm/mean", "norm/var",
                                 "more/0/kernel"}  # fmt: skip
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
        wanted = plus_one(arrays)
        adapter.set(wanted)
        assert_same(adapter.get(), wanted)
        assert model.more[0].kernel is kernel and model.tied.kernel is kernel
        assert model.first.kernel.get_value().dtype == jax.numpy.bfloat16
        assert_refuses(adapter, "more/0/kernel")
        assert buffers_of(adapter) == {"norm/mean", "norm/var"}

    def test_training_goes_on_from_the_weights_set(self, jax: Any, framework: Framework) -> None:
        framework("flax")
        from flax import nnx

        model = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, framework("optax").sgd(1.0), wrt=nnx.Param)
        adapter = adapter_for(model)
        adapter.set({"kernel": np.full((1, 1), 5, np.float32)})
        gradients = nnx.grad(lambda m: m(jax.numpy.ones((1, 1))).sum())(model)
        optimizer.update(model, gradients)
        assert adapter.get()["kernel"] == 4.0
