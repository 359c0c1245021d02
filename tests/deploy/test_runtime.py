"""What images and the Debian package hold, made by the script that makes it there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.runtime import PLACE, ROOT, python, runtime

MOST_MB = {"agent": 120, "cloud": 450}
"""Size of a runtime, at most; docs/images.md says how large they are."""


def packages(made: Path) -> set[str]:
    return {each.name.partition("-")[0] for each in made.glob("lib/*/site-packages/*.dist-info")}


def check(name: str, imported: str) -> None:
    made, said = runtime(name)
    sized = re.search(rf"runtime of {name}: (\d+) MB", said)
    assert sized is not None and int(sized[1]) < MOST_MB[name], said
    assert {each.name for each in (made / "bin").iterdir() if not each.name.startswith("python")} == {
        "heliograph", "nats-server"
    }  # fmt: skip
    assert (made / "bin" / "heliograph").read_text().splitlines()[0] == f"#!{PLACE}/bin/python"
    ran = python(made, str(made / "bin" / "heliograph"), "--version")
    assert (ran.returncode, ran.stdout.split()[0]) == (0, "heliograph"), ran.stderr
    ran = python(made, "-c", f"import {imported}, heliograph; print(heliograph.__file__)")
    assert ran.returncode == 0 and ran.stdout.startswith(str(made)), ran.stderr
    assert not {"setuptools", "pip"} & packages(made)
    assert str(made) not in (made / "bin" / "heliograph").read_text()


def test_the_agents_runtime_has_neither_numpy_nor_kubernetes() -> None:
    check("agent", "heliograph.edge_agent.agent")
    assert not {"numpy", "safetensors", "kubernetes", "aiohttp", "torch"} & packages(runtime("agent")[0])


@pytest.mark.long
def test_the_clouds_runtime_has_what_coordinator_and_workers_need() -> None:
    check("cloud", "heliograph.coordinator.kubernetes.operator, kubernetes.aio, numpy, safetensors, mcap")
    assert not {"torch", "scikit_learn"} & packages(runtime("cloud")[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "deploy/make-runtime SET TARGET [PLACE]"),
        (("edge", "x"), "expected a set that locks/ has a file of, got edge"),
        (("agent", "{there}"), "exists; name a directory that does not"),
    ],
)
def test_the_script_says_what_it_expects(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    given = [word.format(there=tmp_path) for word in words]
    done = subprocess.run([ROOT / "deploy" / "make-runtime", *given], capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and [*tmp_path.iterdir()] == []
