"""A node's inventory: its own data sets, those of the desired document, and its workers' offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.payloads import Offer
from heliograph.bus.contract.resources import DatasetSpec
from heliograph.edge_agent.datasets import source
from heliograph.edge_agent.launcher import LaunchFailed
from tests.node_inventory import inventory_of

ROWS = "x,y\n1,2\n3,4\n"


class Offering:
    """A launcher that only returns offers."""

    def __init__(self, *answers: bytes | str) -> None:
        self._answers = iter(answers)

    async def offers(self) -> bytes:
        answer = next(self._answers)
        if isinstance(answer, str):
            raise LaunchFailed(answer)
        return answer


class NodeInventory:
    def __init__(self, node: Any, own: Mapping[str, Path], root: Path, *answers: bytes | str) -> None:
        self.node = node
        self.changes = 0
        self.logged: list[str] = node.logged
        self.inventory = inventory_of(node, root.parent / "state", own, (root,), Offering(*answers), self._changed)

    async def follow(self, **specs: DatasetSpec) -> None:
        self.inventory.follow(specs)
        await self.node.settled()

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = (tmp_path / "data").resolve()
    root.mkdir()
    for name in ("one", "two"):
        (root / f"{name}.csv").write_text(ROWS)
    (tmp_path / "outside.csv").write_text(ROWS)
    return root


def _keeping(on_node: Any, test: Callable[[NodeInventory], Any], *args: Any, **more: Any) -> None:
    async def main(node: Any) -> None:
        await test(NodeInventory(node, *args, **more))

    on_node(main)


def _spec(path: Path | str) -> DatasetSpec:
    return DatasetSpec(url=str(path), format="csv")


def test_its_own_data_sets_are_indexed(on_node: Any, data: Path) -> None:
    async def test(kept: NodeInventory) -> None:
        await kept.inventory.index_own()
        assert kept.inventory.files == {"mine": data / "one.csv"}
        assert (kept.inventory.datasets["mine"].samples, kept.changes) == (2, 1)

    _keeping(on_node, test, {"mine": data / "one.csv"}, data)


def test_the_documents_data_sets_come_and_go_with_it(on_node: Any, data: Path) -> None:
    async def test(kept: NodeInventory) -> None:
        await kept.follow(a=_spec(data / "one.csv"), b=_spec(data / "two.csv"))
        assert {name: each.samples for name, each in kept.inventory.datasets.items()} == {"a": 2, "b": 2}
        before = kept.changes
        await kept.follow(a=_spec(data / "one.csv"), b=_spec(data / "two.csv"))
        assert kept.changes == before  # an unchanged document reads no file
        await kept.follow(b=_spec(data / "two.csv"))
        assert list(kept.inventory.datasets) == ["b"]
        await kept.follow()
        assert kept.inventory.datasets == {}

    _keeping(on_node, test, {}, data)


def test_no_document_changes_the_nodes_own(on_node: Any, data: Path) -> None:
    async def test(kept: NodeInventory) -> None:
        await kept.inventory.index_own()
        await kept.follow(mine=_spec(data / "two.csv"))
        await kept.follow()
        assert kept.inventory.files == {"mine": data / "one.csv"}
        assert kept.inventory.datasets["mine"].samples == 2

    _keeping(on_node, test, {"mine": data / "one.csv"}, data)


def test_a_file_outside_the_roots_or_none_at_all_is_shown_as_an_error_and_the_others_are_there(
    on_node: Any, data: Path
) -> None:
    async def test(kept: NodeInventory) -> None:
        outside = _spec(data.parent / "outside.csv")
        await kept.follow(a=outside, b=_spec(data / "missing.csv"), c=_spec(data / "one.csv"))
        found = kept.inventory.datasets
        assert found["a"].error
        assert found["b"].error
        assert (found["c"].samples, found["c"].error) == (2, "")

    _keeping(on_node, test, {}, data)


def test_the_workers_offers_are_read(on_node: Any, data: Path) -> None:
    async def test(kept: NodeInventory) -> None:
        await kept.inventory.learn_offers()
        assert kept.inventory.offers == Offer(frameworks={"numpy": "2.0"})
        assert (kept.changes, kept.logged) == (1, [])

    _keeping(on_node, test, {}, data, b'{"frameworks": {"numpy": "2.0"}}')


def test_a_launcher_that_fails_is_asked_again_and_that_is_said_once(on_node: Any, data: Path) -> None:
    async def test(kept: NodeInventory) -> None:
        await kept.inventory.learn_offers()
        assert len(kept.logged) == 1
        assert "no memory" in kept.logged[0]
        assert kept.inventory.offers == Offer(frameworks={"numpy": "2.0"})

    _keeping(on_node, test, {}, data, "no memory", "no memory", b'{"frameworks": {"numpy": "2.0"}}')


@pytest.mark.parametrize(
    ("answer", "logged"), [(b"Traceback: no module", "no module"), (b"", "unknown")]
)
def test_missing_offers_are_a_warning(
    on_node: Any, data: Path, answer: bytes, logged: str
) -> None:
    async def test(kept: NodeInventory) -> None:
        await kept.inventory.learn_offers()
        assert len(kept.logged) == 1
        assert logged in kept.logged[0]
        assert kept.inventory.offers is None

    _keeping(on_node, test, {}, data, answer)


def test_how_far_a_large_file_is_read_is_shown_until_its_index_is_made(
    on_node: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "STEP", 8)
    shown: list[tuple[int, str]] = []

    async def test(kept: NodeInventory) -> None:
        def note() -> None:
            if found := kept.inventory.datasets.get("a"):
                shown.append((found.read, found.error))

        kept.inventory = inventory_of(kept.node, data.parent / "state", {}, (data,), changed=note)
        await kept.follow(a=_spec(data / "one.csv"))
        assert kept.inventory.datasets["a"].samples == 2

    _keeping(on_node, test, {}, data)
    *steps, last = shown
    assert last == (0, "")
    assert steps
    assert all(read > 0 and "is being read: 0 MB so far" in error for read, error in steps)


def test_a_header_is_told_where_the_cells_would_decide_otherwise(on_node: Any, data: Path) -> None:
    async def test(kept: NodeInventory) -> None:
        await kept.follow(a=_spec(data / "one.csv").model_copy(update={"header": "no"}), b=_spec(data / "one.csv"))
        assert (kept.inventory.datasets["a"].samples, kept.inventory.datasets["b"].samples) == (3, 2)

    _keeping(on_node, test, {}, data)
