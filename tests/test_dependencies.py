"""Every imported distribution is declared by the base or an extra, and bounded unless a reason is given."""

from __future__ import annotations

import ast
import os
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"heliograph", "benchmarks", "tests", "upkeep"}
HOMES = packages_distributions()
UNINSTALLED = {
    "PIL": "pillow",
    "ai_edge_litert": "ai-edge-litert",
    "docker": "docker",
    "arro3": "arro3-io",
    "flax": "flax",
    "jax": "jax",
    "keras": "keras",
    "mlflow": "mlflow-skinny",
    "onnxruntime": "onnxruntime",
    "river": "river",
    "peft": "peft",
    "pytorch_lightning": "pytorch-lightning",
    "tensorboardX": "tensorboardX",
    "tensorflow": "tensorflow",
    "testcontainers": "testcontainers",
    "torch": "torch",
    "transformers": "transformers",
    "xgboost": "xgboost-cpu",
}
"""Distributions, by module, that a development environment may lack."""

NEEDS = {
    "bus/contract/bfloat16.py": "train",
    "bus/contract/weights_file.py": "train",
    "bus/nats/web_socket.py": "websocket",
    "bus/traces": "trace",
    "coordinator/kubernetes": "kubernetes",
    "cli/local/curves.py": "train",
    "cli/label/drawing.py": "train",
    "dataset_arrays.py": "train",
    "exports/mlflow.py": "mlflow",
    "frameworks": "train",
    "frameworks/flax_nnx.py": "examples",
    "frameworks/jax.py": "jax",
    "frameworks/keras_steps.py": "tensorflow",
    "frameworks/sklearn.py": "sklearn",
    "frameworks/sklearn_parts.py": "sklearn",
    "frameworks/torch.py": "torch,examples",
    "frameworks/torch_steps.py": "torch",
    "incremental/adapters": "train",
    "incremental/adapters/keras.py": "tensorflow,torch",
    "incremental/adapters/sklearn.py": "sklearn",
    "incremental/adapters/torch.py": "torch",
    "incremental/drift/river_detectors.py": "drift",
    "incremental/growth.py": "train",
    "incremental/learning.py": "train",
    "incremental/memory.py": "train",
    "incremental/sample_files.py": "train",
    "incremental/samples.py": "train",
    "incremental/strategies": "train",
    "incremental/trainer.py": "train",
    "incremental/training_round.py": "train",
    "inference": "train",
    "inference/formats/onnx_model.py": "onnx",
    "inference/formats/tflite_model.py": "tflite",
    "inference/inputs.py": "image",
    "inference/predictors/torch_module.py": "torch",
    "label_studio/png.py": "train",
    "labelling/pixels.py": "train",
    "lifelong": "train",
    "local/demo": "demo",
    "local/demo/torch_digits.py": "demo,torch",
    "local/forms": "train",
    "edge_agent/datasets/parquet_labels.py": "data",
    "local/forms/parquet_form.py": "data",
    "local/split.py": "train",
    "local/split_file.py": "train",
    "local_terms": "train",
    "local_training.py": "train",
    "simulations": "demo",
    "testing": "dev",
    "tracking/event_files.py": "tensorboard",
    "tracking/mlflow_run.py": "mlflow",
    "tracking/tensorboard_run.py": "tensorboard",
    "workers": "train",
}
"""Extras that parts of the package need. A module's nearest entry applies to it."""

UNBOUNDED = {
    "hypothesis": "a tool of ours; constraints.txt pins it",
    "import-linter": "a tool of ours; constraints.txt pins it",
    "mypy": "a tool of ours; constraints.txt pins it",
    "packaging": "calendar versions",
    "pillow": "a major each year, which ends support of old Pythons",
    "pydantic-core": "pydantic requires the one version that fits it",
    "pytest": "a tool of ours; constraints.txt pins it",
    "pytest-asyncio": "a tool of ours; constraints.txt pins it",
    "pytest-xdist": "a tool of ours; constraints.txt pins it",
    "rich": "its majors have ended support of old Pythons and changed looks, not names that we use",
    "ruff": "a tool of ours; constraints.txt pins it",
    "setuptools": "a major for each removal; we use its build backend alone",
    "types-pyyaml": "stubs; constraints.txt pins them",
    "uv": "a tool of ours; constraints.txt pins it",
    "uvloop": "a loop of asyncio's own interface, optional where it is imported",
}
"""Dependencies without an upper bound, each with the reason."""


def declared(extras: str = "") -> set[str]:
    """Return the names of the distributions of the base and of extras, including extras that these refer to."""
    found = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    for line in [line for extra in filter(None, extras.split(",")) for line in PROJECT["optional-dependencies"][extra]]:
        each = Requirement(line)
        if each.name == "heliograph":
            found |= set().union(*(declared(other) for other in each.extras))
        else:
            found.add(canonicalize_name(each.name))
    return found


def modules_of(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(place) / name for name in names if name.endswith(".py"))


def imported(module: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of each distribution that a module imports, also inside its functions."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in OURS:
                yield node.lineno, canonicalize_name(UNINSTALLED.get(top) or HOMES.get(top, [f"unknown: {top}"])[0])


def extra_of(module: Path) -> str:
    """Return the extras that a module of the package may import, from its nearest entry in NEEDS."""
    return next((NEEDS[place.as_posix()] for place in (module, *module.parents) if place.as_posix() in NEEDS), "")


def test_each_import_of_the_package_is_declared_by_the_base_or_its_extra() -> None:
    package = ROOT / "lib" / "heliograph"
    modules = sorted(modules_of(package))
    assert len(modules) > 200
    missing = [
        f"{module.relative_to(package)}:{line} imports {name}, which comes neither with the base"
        + (f" nor with heliograph[{extra}]" if (extra := extra_of(module.relative_to(package))) else "")
        for module in modules
        for line, name in imported(module)
        if name not in declared(extra_of(module.relative_to(package)))
    ]
    assert missing == []


@pytest.mark.parametrize(("folder", "extras"), [
    ("benchmarks", ["dev"]), ("upkeep", ["dev"]),
    ("tests", ["dev", "data", "torch", "tensorflow", "examples", "matrix"]),
    ("examples", ["tensorflow", "examples"]),
])  # fmt: skip
def test_folders_beside_the_package_import_only_distributions_of_their_extras(folder: str, extras: list[str]) -> None:
    known = set().union(*map(declared, extras))
    local = {f"unknown: {path.stem}" for path in (ROOT / folder).rglob("*")}
    missing = [
        f"{module.relative_to(ROOT)}:{line} imports {name}"
        for module in modules_of(ROOT / folder)
        if "field/scripts" not in module.as_posix()  # users' own
        for line, name in imported(module)
        if name not in known | local
    ]
    assert missing == []


def test_each_entry_names_an_existing_part_that_needs_its_extra() -> None:
    package = ROOT / "lib" / "heliograph"
    for place, extra in NEEDS.items():
        part = package / place
        used = {name for module in ([part] if part.is_file() else modules_of(part)) for _, name in imported(module)}
        assert used & (declared(extra) - declared()), f"{place} imports nothing of heliograph[{extra}]"


def requirements() -> Iterator[Requirement]:
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        yield from (Requirement(line) for line in lines if not line.startswith("heliograph["))


def test_each_dependency_has_an_upper_bound_or_a_reason_to_have_none() -> None:
    bounded = {canonicalize_name(each.name): any(part.operator == "<" for part in each.specifier)
               for each in requirements()}  # fmt: skip
    assert {name for name, bound in bounded.items() if not bound} == set(UNBOUNDED)


def test_pinned_versions_lie_within_the_declared_bounds() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    for each in requirements():
        if (version := pinned.get(canonicalize_name(each.name))) is not None:
            assert version in each.specifier, f"constraints.txt pins {each.name} {version}, expected {each.specifier}"
