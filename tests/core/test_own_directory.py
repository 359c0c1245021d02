"""A temporary directory of a killed process goes with the next one; that of a living one stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from heliograph.core.own_directory import OwnDirectory

HOLDER = """
import time
from heliograph.core.own_directory import OwnDirectory
own = OwnDirectory("heliograph-test-", time.time())
print(own.path, flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_nothing_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=-1, text=True, env=environment) as holder:
        assert holder.stdout is not None
        held = Path(holder.stdout.readline().strip())
        (held / "part").write_bytes(b"x")
        others = [tmp_path / f"heliograph-{each}" for each in ("test-link", "test-young", "other-1")]
        others[0].symlink_to(tmp_path)
        for each in others[1:]:
            each.mkdir()
        first = OwnDirectory("heliograph-test-", time.time())
        assert (held / "part").exists(), "its process lives"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    (tmp_path / "heliograph-test-old").mkdir()
    os.utime(tmp_path / "heliograph-test-old", (1, 1))
    second = OwnDirectory("heliograph-test-", time.time())
    assert not held.exists()
    assert not (tmp_path / "heliograph-test-old").exists()
    assert all(each.exists() for each in (*others, first.path, second.path))
    first.close()
    second.close()
    assert not first.path.exists()
