"""What a node has for its workers: found without a framework, or as its operator says."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliograph.edge_agent.admission import Capacity
from heliograph.edge_agent.node_capacity import node_capacity, visible_gpus


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("environment", "number", "gpus"),
    [
        ({}, None, ("0", "1")),
        ({}, 0, ()),
        ({}, 3, ("0", "1", "2")),
        ({"CUDA_VISIBLE_DEVICES": "MIG-a, MIG-b"}, None, ("MIG-a", "MIG-b")),
        ({"CUDA_VISIBLE_DEVICES": "MIG-a,MIG-b"}, 1, ("MIG-a",)),
        ({"CUDA_VISIBLE_DEVICES": ""}, None, ()),
    ],
)
def test_gpus_are_devices_or_what_options_and_environment_name(
    devices: Path, environment: dict[str, str], number: int | None, gpus: tuple[str, ...]
) -> None:
    assert node_capacity(1 << 30, number, environment, devices) == Capacity(1 << 30, gpus)


def test_amd_has_one_compute_device_and_a_render_node_for_each_gpu(tmp_path: Path) -> None:
    (tmp_path / "dri").mkdir()
    for name in ("kfd", "dri/renderD128", "dri/renderD129", "dri/card0"):
        (tmp_path / name).touch()
    assert node_capacity(0, None, {}, tmp_path).gpus == ("0", "1")
    assert node_capacity(0, None, {}, tmp_path / "none").gpus == ()


def test_by_default_most_of_the_memory_is_for_workers(devices: Path) -> None:
    found = node_capacity(None, None, {}, devices).memory
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    assert 0 < found < int(lines["MemTotal"].split()[0]) << 10


def test_a_worker_is_shown_its_gpus_alone() -> None:
    assert visible_gpus(("1", "3")) == {"CUDA_VISIBLE_DEVICES": "1,3"}
    assert visible_gpus(()) == {}
