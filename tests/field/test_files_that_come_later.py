"""A data set whose file appears after the agent's start, and folders that are not there at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.resources import DatasetSpec
from heliograph.edge_agent.inventory import LOOK, LOOK_SOON, Inventory
from tests.node_inventory import inventory_of

ROWS = "x,y\n1,2\n3,4\n"
SOON, LATER = 2.5 * LOOK_SOON, 2.5 * LOOK


def _watching(
    on_node: Any, state: Path, own: dict[str, Path], roots: tuple[Path, ...], test: Callable[..., Any]
) -> None:
    async def main(node: Any) -> None:
        inventory = inventory_of(node, state, own, roots)
        node.background.spawn(inventory.watch())
        await node.settled()
        await test(node, inventory)

    on_node(main)


def test_a_data_set_file_that_appears_later_is_found(on_node: Any, tmp_path: Path) -> None:
    file = tmp_path / "late.csv"

    async def test(node: Any, inventory: Inventory) -> None:
        assert "does not exist on this node" in inventory.datasets["late"].error
        await node.world.sleep(SOON)
        assert inventory.datasets["late"].error
        file.write_text(ROWS)
        await node.world.sleep(SOON)
        assert (inventory.datasets["late"].error, inventory.datasets["late"].samples) == ("", 2)

    _watching(on_node, tmp_path / "state", {"late": file}, (), test)


def test_a_file_that_is_still_being_written_is_left_alone_until_it_is_whole(on_node: Any, tmp_path: Path) -> None:
    file = tmp_path / "growing.csv"

    async def test(node: Any, inventory: Inventory) -> None:
        for rows in range(1, 5):
            file.write_text("x,y\n" + "1,2\n" * rows)
            await node.world.sleep(LOOK_SOON)
            assert inventory.datasets["growing"].samples == 0
        await node.world.sleep(SOON)
        assert inventory.datasets["growing"].samples == 4

    _watching(on_node, tmp_path / "state", {"growing": file}, (), test)


def test_a_file_that_changes_or_goes_is_indexed_again(on_node: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(ROWS)

    async def test(node: Any, inventory: Inventory) -> None:
        before = inventory.datasets["mine"]
        await node.world.sleep(LATER)
        assert inventory.datasets["mine"] is before  # an unchanged file is not read again
        file.write_text(ROWS + "5,6\n")
        await node.world.sleep(LATER)
        assert inventory.datasets["mine"].samples == 3
        file.unlink()
        await node.world.sleep(LATER)
        assert "does not exist on this node" in inventory.datasets["mine"].error

    _watching(on_node, tmp_path / "state", {"mine": file}, (), test)


def test_a_documents_file_is_found_in_whichever_root_it_appears(on_node: Any, tmp_path: Path) -> None:
    roots = tmp_path / "one", tmp_path / "two"
    for root in roots:
        root.mkdir()

    async def test(node: Any, inventory: Inventory) -> None:
        inventory.follow({"later": DatasetSpec(url="later.csv", format="csv")})
        await node.settled()
        assert inventory.datasets["later"].error
        (roots[1] / "later.csv").write_text(ROWS)
        await node.world.sleep(SOON)
        assert inventory.datasets["later"].samples == 2
        assert inventory.files["later"] == roots[1].resolve() / "later.csv"

    _watching(on_node, tmp_path / "state", {}, roots, test)


@pytest.mark.parametrize("option", ["--code", "--data"])
def test_up_refuses_a_folder_that_is_not_there(
    typed: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ran = typed("up", option, tmp_path / "nowhere")
    assert ran.code == 1
    assert ran.error == f"field {option[2:]}: expected a directory that exists, got {tmp_path / 'nowhere'}"


@pytest.mark.parametrize("root", ["--code=nowhere", "--code=/code=nowhere", "--data=nowhere"])
def test_an_agent_refuses_a_folder_that_is_not_there(typed: Callable[..., Any], tmp_path: Path, root: str) -> None:
    where = ("--cloud", "nats://127.0.0.1:1", "--node", "mqtt://127.0.0.1:1", "--state", tmp_path)
    ran = typed("agent", "--name", "edge-1", *where, root)
    assert ran.code == 2
    assert f"invalid value for {root[:6]}: expected a directory that exists on this node, got" in ran.err
