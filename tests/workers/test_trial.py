"""The trial of a candidate: a version that crashes, fails or hangs does so in a process of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.payloads import Assignment, InferTask
from heliograph.bus.contract.payloads.task_parts import ScriptSpec
from heliograph.bus.contract.weights_file import dumps
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.inference.inputs import pack_request
from heliograph.workers.trial import Trial, objection, unpacked

TOPIC = "inference/line/request"
SCRIPT = """
import os, signal
import numpy as np
from heliograph import JointInference

class Line:
    w = np.zeros(2)
    def get(self):
        return {"w": self.w}
    def set(self, arrays):
        self.w = np.array(arrays["w"])
        if self.w.shape != (2,):
            raise ValueError("expected w of shape (2,)")
    def __call__(self, batch):
        if self.w[0] == 11:
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.w[0] == 12 and batch[0].sum() == 6:
            raise RuntimeError("twelve")
        return [self.w for _ in batch]

print("two lines\\nfrom the script")
JointInference("line", edge=Line()).serve()
"""


def _trial(directory: Path, weights: Any, script: str = SCRIPT, file: bool = False) -> Trial:
    code = directory / "code"
    code.mkdir()
    (code / "edge.py").write_text(script)
    spec = ScriptSpec(boot_file=str(code / "edge.py"))
    task = InferTask(worker="line-worker", job="line", job_uid="u", generation=1, script=spec)
    data = dumps({"w": np.asarray(weights, np.float64)})
    source: Path | bytes = data
    if file:
        source = directory / "weights"
        source.write_bytes(data)
    return Trial(Assignment(task=task, edge="edge-1"), [code], hashlib.sha256(data).hexdigest(), source, TOPIC,
                 pack_request(np.full(2, 3, np.float32), 1.0))  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        ([0.1, 0.9], ""),
        ([11, 0], "signal 11 (segmentation fault): from the script"),
        ([12, 0], "RuntimeError: twelve"),  # only the sample of a real request makes it fail
        ([1, 2, 3], "expected w of shape (2,)"),
    ],
)
async def test_a_version_answers_only_after_its_trial(tmp_path: Path, weights: Any, why: str) -> None:
    found = await objection(_trial(tmp_path, weights, file=len(weights) == 3), World())
    assert why in found
    assert bool(found) == bool(why)


async def test_a_trial_that_hangs_is_ended(tmp_path: Path) -> None:
    trial = _trial(tmp_path, [0, 1], "import threading; threading.Event().wait()")
    assert "did not end within 0.5 s" in await objection(trial, World(), 0.5)


async def test_a_script_that_does_not_serve_again_is_named(tmp_path: Path) -> None:
    found = await objection(_trial(tmp_path, [0, 1], "raise OSError('the camera is in use')"), World())
    assert found == "the script, run a second time for the trial, ended before it served: OSError: the camera is in use"


@pytest.mark.parametrize("packed", [b"", b"\x81", b"\x80", b"\xa1x"])
def test_what_is_no_trial_is_refused(packed: bytes) -> None:
    with pytest.raises(Refused) as refused:
        unpacked(packed)
    assert "not by hand" in str(refused.value)
