"""What images and the Debian package hold, made by the script that makes it there; and the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.runtime import PLACE, ROOT, interpreter, python, runtime

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


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked package, with its control files in ``DEBIAN``."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    place = tmp_path_factory.mktemp("package")
    variables = {"RUNTIME": str(runtime("agent")[0]), "PYTHON": interpreter(), "PIP": sys.executable,
                 "COMPRESSION": "none"}  # fmt: skip
    done = subprocess.run([ROOT / "deploy" / "debian" / "build", place], capture_output=True, text=True,
                          env=os.environ | variables)  # fmt: skip
    assert done.returncode == 0, done.stderr
    [file] = place.glob("*.deb")
    assert done.stdout.splitlines()[-1] == str(file)
    listed = subprocess.run(["dpkg-deb", "--contents", file], capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in listed.splitlines()} == {"root/root"}
    assert not any("w" in line[5:10:3] for line in listed.splitlines() if line[0] != "l"), "root alone may write"
    subprocess.run(["dpkg-deb", "--raw-extract", file, place / "tree"], check=True)
    return place / "tree"


def test_the_packages_fields_say_on_which_machines_it_runs(package: Path) -> None:
    fields = dict(line.split(": ", 1) for line in (package / "DEBIAN" / "control").read_text().splitlines()
                  if not line.startswith(" "))  # fmt: skip
    [library] = package.glob("opt/heliograph/lib/python3.*")
    minor = int(library.name.rpartition(".")[2])
    assert f"python3 (>= 3.{minor}), python3 (<< 3.{minor + 1})" in fields["Depends"]
    assert fields["Package"] == "heliograph-agent" and re.fullmatch(r"\d[\w.~]+", fields["Version"])
    assert fields["Architecture"] != "all", "it has compiled parts"
    assert 50_000 < int(fields["Installed-Size"]) < MOST_MB["agent"] * 1024
    order = subprocess.run(["dpkg", "--compare-versions", "0.2.0~dev0", "lt", "0.2.0"])
    assert order.returncode == 0


def test_the_package_has_the_units_and_what_they_start(package: Path) -> None:
    units = {each.name: each.read_text() for each in (package / "usr/lib/systemd/system").iterdir()}
    assert units.keys() == {"heliograph-agent.path", "heliograph-agent.service", "heliograph-enroll.service"}
    for text in units.values():
        for program in re.findall(r"^ExecStart=(\S+)", text, re.M):
            assert os.access(package / program.lstrip("/"), os.X_OK)
    assert (package / "usr/bin/heliograph").readlink() == Path(f"{PLACE}/bin/heliograph")
    ran = python(package / PLACE.lstrip("/"), "-m", "heliograph.cli.main", "agent", "--help")
    assert ran.returncode == 0 and "--wait" in ran.stdout
    conffiles = (package / "DEBIAN" / "conffiles").read_text().split()
    assert conffiles == ["/etc/heliograph/agent.env"] and (package / conffiles[0].lstrip("/")).exists()
    written = [line for line in (package / "opt/heliograph/pyvenv.cfg").read_text().splitlines() if "/tmp" in line]
    assert written == []


def test_a_new_installation_makes_user_and_directories_and_says_how_to_enrol(package: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("systemd-sysusers", "systemd-tmpfiles", "systemctl"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*"\n')
        (programs / name).chmod(0o755)
    ran = subprocess.run([package / "DEBIAN" / "postinst", "configure", ""], capture_output=True, text=True,
                         env={"PATH": f"{programs}:/usr/bin:/bin"}, check=True)  # fmt: skip
    lines = ran.stdout.splitlines()
    assert lines[:2] == ["systemd-sysusers heliograph.conf", "systemd-tmpfiles --create heliograph.conf"]
    assert lines[-1] == "enrol this node: sudo -u heliograph heliograph enroll - --state /var/lib/heliograph"
    for script in ("postinst", "prerm", "postrm"):
        text = (package / "DEBIAN" / script).read_text()
        assert text.startswith("#!/bin/sh\n") and "\nset -e\n" in text
        assert subprocess.run(["sh", "-n", package / "DEBIAN" / script]).returncode == 0
    kept = (package / "DEBIAN" / "postrm").read_text()
    assert kept.index('"$1" = purge') < kept.index("rm -rf"), "an edge that is removed keeps its login and its journal"
