"""Print the offers of this node's workers as JSON: algorithms and hard-sample rules with their parameters' schemas, and
frameworks.

The JSON is the last line. Lines before it name installed algorithms that cannot be used, or were printed by packages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from typing import Any

from heliograph.frameworks.installed import installed
from heliograph.inference.hard_samples import rules
from heliograph.workers.algorithms import schemas

FRAMEWORKS = {
    "numpy": "numpy",
    "torch": "torch",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "sklearn": "scikit-learn",
    "jax": "jax",
}
FORMATS = {"onnx": "onnxruntime", "tflite": "ai-edge-litert"}
"""The distribution of the runtime of each format that is served without a script."""


def offers() -> dict[str, Mapping[str, object]]:
    """Return ``{"algorithms": {name: schema}, "rules": {name: schema}, "frameworks": {name: version},
    "formats": {name: version}}``.

    Import no framework, and no package that offers one: its version is the package's. Without NumPy offer no
    algorithms; the rules do not need it.
    """
    frameworks: dict[str, object] = {}
    for name, distribution in FRAMEWORKS.items():
        for candidate in (distribution, f"{distribution}-cpu"):
            try:
                frameworks[name] = metadata.version(candidate)
            except metadata.PackageNotFoundError:
                continue
            break
    for name, point in installed().items():
        frameworks[name] = point.dist.version if point.dist is not None else ""
    formats: dict[str, object] = {}
    for name, distribution in FORMATS.items():
        with suppress(metadata.PackageNotFoundError):
            formats[name] = metadata.version(distribution)
    algorithms: dict[str, dict[str, Any]] = {}
    if "numpy" in frameworks:
        algorithms, failed = schemas()
        for error in failed:
            print(error)
    return {"algorithms": algorithms, "rules": rules(), "frameworks": frameworks, "formats": formats}


if __name__ == "__main__":
    print(json.dumps(offers()))
