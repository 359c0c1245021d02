"""What a node has free: batteries of a machine, and what is news enough to be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.payloads import NodeState
from heliograph.core.tasks import cancel_and_wait
from heliograph.edge_agent.node_state import LOOK, NodeWatch, is_news, read_batteries, read_node_state
from heliograph.simulations.virtual.loop import VirtualLoop, run
from tests.virtual_node import Node

BASE = NodeState(free_memory=1000, free_cores=4.0, battery=50, charging=False)


def _supply(place: Path, name: str, **files: str) -> None:
    (place / name).mkdir(parents=True)
    for file, text in files.items():
        (place / name / file).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        ({}, ([], False)),
        ({"AC": {"type": "Mains", "online": "1"}}, ([], False)),
        ({"BAT0": {"type": "Battery", "capacity": "81", "status": "Discharging"}}, ([81.0], False)),
        ({"BAT0": {"type": "Battery", "capacity": "81", "status": "Charging"}}, ([81.0], True)),
        ({"BAT0": {"type": "Battery", "capacity": "60", "status": "Not charging"},
          "AC": {"type": "Mains", "online": "1"}}, ([60.0], True)),
        ({"BAT0": {"type": "Battery", "capacity": "60", "status": "Discharging"},
          "BAT1": {"type": "Battery", "capacity": "20", "status": "Discharging"},
          "AC": {"type": "Mains", "online": "0"}}, ([60.0, 20.0], False)),
        ({"mouse": {"type": "Battery", "scope": "Device", "capacity": "5", "status": "Discharging"}}, ([], False)),
        ({"BAT0": {"type": "Battery", "capacity": "much", "status": "Full"}}, ([], False)),
        ({"BAT0": {"type": "Battery", "status": "Unknown"}}, ([], False)),
        ({"BAT0": {"type": "Battery", "capacity": "104", "status": "Full"}}, ([100.0], True)),
    ],
)  # fmt: skip
def test_the_batteries_of_a_machine(
    tmp_path: Path, supplies: dict[str, Any], expected: tuple[list[float], bool]
) -> None:
    for name, files in supplies.items():
        _supply(tmp_path, name, **files)
    assert read_batteries(tmp_path) == expected


def test_a_machine_without_the_directory_has_no_battery(tmp_path: Path) -> None:
    state = read_node_state(tmp_path / "missing")
    assert (state.battery, state.charging) == (None, False)
    assert state.free_memory and state.free_cores is not None


@pytest.mark.parametrize(
    ("changes", "news"),
    [
        ({}, False), ({"battery": 54.9}, False), ({"battery": 55}, True), ({"battery": 45}, True),
        ({"battery": None}, True), ({"charging": True}, True), ({"free_memory": 800}, False),
        ({"free_memory": 750}, True), ({"free_memory": None}, True), ({"free_cores": 3.1}, False),
        ({"free_cores": 2.0}, True),
    ],
)  # fmt: skip
def test_only_what_has_changed_by_enough_is_news(changes: dict[str, Any], news: bool) -> None:
    assert is_news(BASE, BASE.model_copy(update=changes), cores=4) is news


def test_it_is_told_once_for_each_step_and_not_for_many_small_ones() -> None:
    levels = iter([50, 52, 54, 55, 57, 59, 61])
    told: list[float | None] = []

    async def main(loop: VirtualLoop) -> None:
        node = Node(loop)
        state: list[NodeState] = []

        def read() -> NodeState:
            state.append(NodeState(battery=next(levels)))
            return state[-1]

        watch = NodeWatch(read, node.world, lambda: told.append(watch.state.battery if watch.state else None))
        running = node.start(watch.run())
        await node.world.sleep(6.5 * LOOK)
        await cancel_and_wait(running)

    run(main)
    assert told == [50, 55, 61]
