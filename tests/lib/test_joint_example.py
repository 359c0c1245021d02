"""The example on real digits: it runs as it stands; the pair beats the edge, and costs less than the cloud."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from heliograph.inference.tuning import read_labelled, tune

EXAMPLE = Path(__file__).parents[2] / "examples" / "joint_digits.py"


def test_the_pair_is_nearly_as_good_as_the_cloud_for_a_third_of_its_requests(tmp_path: Path) -> None:
    wide = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    words = [sys.executable, str(EXAMPLE), "--save", "set.npz", "--plot", "curve.html"]
    done = subprocess.run(words, cwd=tmp_path, env=wide, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    row = r"^\W+{}\W+([\d.]+)\D+([\d.]+)%\D+(\d+) µs\D+(\d+) µs\D+(\d+) B"
    rows = {}
    for name in ("edge only", "cloud only", "joint"):
        found = re.search(row.format(name), done.stdout, re.MULTILINE)
        assert found, done.stdout
        rows[name] = [float(each) for each in found.groups()]
    (edge, none, *_, nothing), (cloud, every, *_, size), (joint, offload, *_, sent) = rows.values()
    assert (none, nothing, every) == (0, 0, 100)
    assert 256 <= size < 350  # an image's 64 numbers, and what says so
    assert joint > edge + 0.03
    assert joint > cloud - 0.02
    assert offload < 40
    assert sent < 0.4 * size
    assert "<svg" in (tmp_path / "curve.html").read_text()
    again = tune(read_labelled(tmp_path / "set.npz"), "threshold", {}, target_accuracy=0.97)
    assert again.choice.sentence() in done.stdout
