"""``algorithms``, and the options by which an agent's operator allows packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heliograph.algorithm_files import read
from heliograph.core.signing import Signer
from heliograph.core.world import World

DIGEST = "a" * 64
AGENT = ("agent", "--name", "e1", "--cloud", "nats://127.0.0.1:1", "--node", "mqtt://127.0.0.1:1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    code = tmp_path / "digits"
    code.mkdir()
    (code / "train.py").write_text("print('trained')")
    (code / ".env").write_text("secret")
    return code


def test_pack_prints_the_digest_and_what_it_left_out(typed: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "schemas.yaml").write_text("rate: {type: number, default: 1e-3}\n")
    options = ("--framework", "numpy", "--parameters", str(tmp_path / "schemas.yaml"))
    ran = typed("algorithms", "pack", str(folder), *options, "--out", str(tmp_path / "out" / "digits.zip"))
    assert (ran.code, ran.err) == (0, "left out: .env\n")
    package = read(tmp_path / "out" / "digits.zip")
    assert ran.out.splitlines()[-1] == package.digest
    assert package.manifest.parameters == {"rate": {"type": "number", "default": 0.001}}
    assert typed("algorithms", "pack", str(tmp_path / "out" / "digits.zip")).out == f"{package.digest}\n"


@pytest.mark.parametrize(
    ("schemas", "message"),
    [
        ("- rate", "expected one mapping"), ("", "expected one mapping"), ("rate: fast", "field parameters"),
        ("rate: {type: [number]}", "field parameters"), ("{", "not YAML"),
    ],
)  # fmt: skip
def test_parameters_that_are_no_schemas(typed: Any, folder: Path, tmp_path: Path, schemas: str, message: str) -> None:
    (tmp_path / "schemas.yaml").write_text(schemas)
    ran = typed("algorithms", "pack", str(folder), "--parameters", str(tmp_path / "schemas.yaml"))
    assert ran.code == 1
    assert message in ran.error


def test_a_folder_that_is_no_package_is_one_line(typed: Any, folder: Path) -> None:
    (folder / "passwd").symlink_to("/etc/passwd")
    ran = typed("algorithms", "upload", "digits", str(folder))
    assert ran.code == 1
    assert ran.error.endswith("passwd, which is a symbolic link. Put a copy in its place.")
    assert typed("algorithms", "pack", str(folder / "absent")).error.endswith("No such file or directory")
    assert typed("algorithms").code == typed("algorithms", "allow", "No Label").code == 2


def test_allow_adds_a_digest_once_and_keeps_the_file(typed: Any, tmp_path: Path) -> None:
    file = tmp_path / "allowed"
    file.write_text("# reviewed\n")
    for word in ("added", "is there already"):
        ran = typed("algorithms", "allow", DIGEST, "--file", str(file))
        assert ran.out == f"{file}: package {DIGEST[:12]} {word}\n"
    assert file.read_text() == f"# reviewed\n{DIGEST}\n"


def test_allow_without_a_cluster_of_this_machine_says_so(typed: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert "name the agents' file by --file" in typed("algorithms", "allow", DIGEST).error


def test_an_agent_with_bad_allowances_does_not_start(typed: Any, tmp_path: Path) -> None:
    agent = (*AGENT, "--state", str(tmp_path / "state"))
    ran = typed(*agent, "--allow-package", "abc")
    assert (ran.code, ran.error[:40]) == (2, "invalid value for --allow-package: expec")
    (tmp_path / "private").write_text(Signer.made(World()).private_key())
    (tmp_path / "nothing").write_text("")
    for name in ("private", "nothing", "absent"):
        ran = typed(*agent, "--package-keys", str(tmp_path / name))
        assert ran.code == 1
        assert ran.error.startswith(str(tmp_path / name))
        assert "KEY-----" not in ran.err
    assert not (tmp_path / "state").exists()
