"""Prints, as JSON, what this node's workers can run: algorithms with their parameters' schemas, and frameworks."""

from __future__ import annotations

import json
from importlib import metadata

from heliograph.workers.algorithms import schemas

FRAMEWORKS = {
    "numpy": "numpy",
    "torch": "torch",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "sklearn": "scikit-learn",
}


def offers() -> dict[str, dict[str, object]]:
    """``{"algorithms": {name: schema}, "frameworks": {name: version}}``, without importing any framework."""
    frameworks: dict[str, object] = {}
    for name, distribution in FRAMEWORKS.items():
        for candidate in (distribution, f"{distribution}-cpu"):
            try:
                frameworks[name] = metadata.version(candidate)
            except metadata.PackageNotFoundError:
                continue
            break
    return {"algorithms": dict(schemas()) if "numpy" in frameworks else {}, "frameworks": frameworks}


if __name__ == "__main__":
    print(json.dumps(offers()))
