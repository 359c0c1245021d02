"""A node's inventory for tests, on the test's node in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from heliograph.edge_agent.dataset_contents import DatasetContents
from heliograph.edge_agent.datasets.known_files import KnownFiles
from heliograph.edge_agent.inventory import Inventory, OwnDatasets
from heliograph.edge_agent.launcher import Launcher


def inventory_of(
    node: Any, state: Path, own: Mapping[str, Path], roots: Sequence[Path], launcher: object = None,
    changed: Callable[[], None] = lambda: None,
) -> Inventory:  # fmt: skip
    """Return an inventory with its state in that directory; its warnings are ``node.logged``."""
    return Inventory(
        OwnDatasets(own), roots, cast(Launcher, launcher), node.world, node.background, changed, node.logged.append,
        DatasetContents(state / "datasets", node.blobs, node.world),
        KnownFiles(state / "datasets.db", node.world, node.logged.append),
    )  # fmt: skip
