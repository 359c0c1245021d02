"""The example on real digits runs unchanged; the pair beats the edge alone and costs less than the cloud alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from heliograph.inference.tuning import read_labelled, tune

EXAMPLE = Path(__file__).parents[2] / "examples" / "joint_digits.py"
ROW = r"^\W+{}\W+([\d.]+)\D+([\d.]+)%\D+(\d+) µs\D+(\d+) µs\D+(\d+) B"


@dataclass(frozen=True)
class Row:
    """A row of the table: accuracy, offloaded percentage of requests, and bytes sent to the cloud for each request."""

    accuracy: float
    offload: float
    sent: float


def run_example(directory: Path, *options: str) -> str:
    """Run the example in a directory and return its output."""
    wide = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, str(EXAMPLE), *options], cwd=directory, env=wide, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def row(name: str, printed: str) -> Row:
    found = re.search(ROW.format(name), printed, re.MULTILINE)
    assert found, printed
    accuracy, offload, _, _, sent = map(float, found.groups())
    return Row(accuracy, offload, sent)


@pytest.mark.long
def test_the_example_writes_a_table_a_set_and_a_page(tmp_path: Path) -> None:
    printed = run_example(tmp_path, "--save", "set.npz", "--plot", "curve.html")
    edge, cloud, joint = (row(name, printed) for name in ("edge only", "cloud only", "joint"))
    assert (edge.offload, edge.sent, cloud.offload) == (0, 0, 100)
    assert 256 <= cloud.sent < 350  # the 64 float32 of an image and their header
    assert 0 < joint.sent < cloud.sent
    assert "<svg" in (tmp_path / "curve.html").read_text()
    again = tune(read_labelled(tmp_path / "set.npz"), "threshold", {}, target_accuracy=0.97)
    assert again.choice.sentence() in printed


@pytest.mark.quality
def test_the_pair_is_nearly_as_accurate_as_the_cloud_for_a_third_of_its_requests(tmp_path: Path) -> None:
    printed = run_example(tmp_path)
    edge, cloud, joint = (row(name, printed) for name in ("edge only", "cloud only", "joint"))
    assert joint.accuracy > edge.accuracy + 0.03
    assert joint.accuracy > cloud.accuracy - 0.02
    assert joint.offload < 40
    assert joint.sent < 0.4 * cloud.sent
