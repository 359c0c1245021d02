"""The Dockerfiles; ``test_runtime`` makes what they hold."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.runtime import PLACE, ROOT

DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_a_dockerfile_is_clean_and_ends_as_a_user_without_rights(file: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--failure-threshold", "style", file], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    text = file.read_text()
    last = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER (\d+):\d+$", last, re.M), "Kubernetes can tell of a number alone that it is not root"
    assert "COPY . ." not in last and "pip" not in last, "the last stage has neither source nor build tools"
    assert all(":" in image and "latest" not in image for image in re.findall(r"^FROM (\S+)", text, re.M))
    assert f"COPY --from=build {PLACE} {PLACE}" in last


def test_the_build_gets_all_that_the_script_copies_and_no_more() -> None:
    """``.dockerignore`` excludes all, and takes single entries of the root in again."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    sent = {line[1:] for line in lines if line.startswith("!")}
    script = (ROOT / "deploy" / "make-runtime").read_text()
    [copied] = re.findall(r"--exclude=__pycache__ ([\w. ]+)\)", script)
    assert sent == {*copied.split(), "locks", "deploy/make-runtime"}
    assert all((ROOT / name).exists() for name in sent)
    assert fnmatch.filter(lines, "!*secret*") == []
