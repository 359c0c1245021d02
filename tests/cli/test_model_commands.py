"""Versions of a model on the command line: aliases move and go back, exports are verified, mistakes are one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.weights_file import dumps

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _trained(cli: Any, job: Any) -> str:
    """Train a model once for all tests, to one version. Return its name."""
    if "digits" not in (await cli("get", "jobs")).out:
        assert (await cli("apply", "-f", "-", stdin=job("digits"))).code == 0
        assert (await cli("watch", "jobs/digits")).code == 0
    return "of-digits"


async def test_a_trained_version_tells_where_it_comes_from_and_is_signed(cli: Any, job: Any) -> None:
    name = await _trained(cli, job)
    found = json.loads((await cli("models", "versions", name, "-o", "json")).out)
    (version,) = found["versions"]
    assert (version["version"], version["jobName"], version["round"], found["deployed"]) == (1, "digits", 2, 1)
    assert list(version["code"].values()) == [1] and re.fullmatch("[0-9a-f]{64}", next(iter(version["code"])))
    assert version["signature"]["payloadType"] == "application/vnd.in-toto+json"
    header, row = (await cli("models", "versions", f"models/{name}")).out.splitlines()
    assert header.split()[:3] == ["VERSION", "ALIASES", "DIGEST"] and row.split()[:2] == ["1", "(deployed)"]
    (scored,) = (await cli("models", "evaluation", name)).out.splitlines()[1:]
    assert "loss=0.5" in scored and "training" in scored
    assert "no service runs model" in (await cli("models", "deployment", name)).err


async def test_an_alias_moves_goes_back_and_names_a_version_to_download(cli: Any, job: Any, tmp_path: Path) -> None:
    name = await _trained(cli, job)
    tried = await cli("models", "alias", name, "blue", "1", "--dry-run")
    assert tried.out == f"model/{name} blue is version 1 (dry run)\n"
    moved = await cli("models", "alias", name, "blue", "1", "--edge", "edge-1", "--edge", "edges/edge-9")
    assert moved.out == f"model/{name} blue is version 1 on edge-1, edge-9\n"
    assert moved.err == "warning: no edge edge-9 is known yet\n"
    assert "blue (2 edges)" in (await cli("models", "versions", name)).out
    file = tmp_path / "blue.safetensors"
    assert (await cli("models", "download", name, "--version", "blue", "--out", file)).code == 0
    assert file.stat().st_size > 0
    refused = await cli("rollback", f"models/{name}")
    assert refused.code != 0 and "expected 1, got nothing" in refused.error
    refused = await cli("models", "alias", name, "blue", "1", "--was", "7")
    assert "expected version 1, which blue names now, got 7" in refused.error
    assert (await cli("models", "alias", name, "blue", "--no-edges")).out == f"model/{name} blue is version 1\n"
    assert (await cli("models", "alias", name, "blue", "--remove")).out == f"model/{name} blue removed\n"
    refused = await cli("models", "download", name, "--version", "blue", "--out", file)
    assert "got blue" in refused.error


async def test_an_export_is_verified_with_the_key_of_the_coordinator(cli: Any, job: Any, tmp_path: Path) -> None:
    name = await _trained(cli, job)
    keys, folder = tmp_path / "keys.pem", tmp_path / "out" / "model"
    keys.write_text((await cli("models", "key")).out)
    assert (await cli("models", "export", name, "--out", folder)).out == f"{folder}\n"
    assert (await cli("models", "verify", folder, "--keys", keys)).code == 0
    (folder / "model.json").write_text("{}")
    refused = await cli("models", "verify", folder, "--keys", keys)
    assert "field model.json: expected SHA-256" in refused.error
    assert "expected a name that is free" in (await cli("models", "export", name, "--out", folder)).error
    layout = tmp_path / "layout"
    assert (await cli("models", "export", name, "--to", "oci", "--version", "1", "--out", layout)).code == 0
    assert len(list((layout / "blobs" / "sha256").iterdir())) == 7


async def test_each_upload_is_a_version_and_signed(cli: Any, tmp_path: Path) -> None:
    file, folder = tmp_path / "w.safetensors", tmp_path / "exported"
    file.write_bytes(dumps({"w": np.arange(4.0)}))
    assert (await cli("models", "upload", "uploaded", file)).code == 0
    (row,) = (await cli("models", "versions", "uploaded")).out.splitlines()[1:]
    assert row.split()[:2] == ["1", "(deployed)"] and " yes" in row
    assert (await cli("models", "export", "uploaded", "--out", folder)).code == 0
    assert (folder / "model.safetensors").read_bytes() == file.read_bytes() and (folder / "model.sig").exists()


async def test_a_next_version_waits_where_it_is_asked_to_and_a_rollback_ends_its_rollout(
    cli: Any, tmp_path: Path
) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in (1, 2, 3)]
    for number, file in enumerate(files):
        file.write_bytes(dumps({"w": np.full(4, float(number))}))
    assert (await cli("models", "upload", "staged", files[0])).out.startswith("model/staged version 1 is ")
    ran = await cli("models", "upload", "staged", files[1], "--no-deploy", "--parent", 1, "--metric", "accuracy=0.97")
    assert ran.out.startswith("model/staged version 2 is ") and "Version 1 stays deployed." in ran.out
    found = json.loads((await cli("models", "versions", "staged", "-o", "json")).out)
    newest, oldest = found["versions"]
    assert (newest["parent"], found["deployed"]) == (oldest["weights"]["digest"], 1)
    assert "accuracy=0.97" in (await cli("models", "evaluation", "staged")).out
    tried = await cli("models", "rollout", "staged", 2, "--share", 0.5, "--dry-run")
    assert tried.out == "model/staged version 2 answers 50% of the requests (dry run)\n"
    assert (await cli("models", "rollout", "staged", 2, "--share", 0.5)).code == 0
    assert "version 2 answers 50% of the requests" in (await cli("describe", "models/staged")).out
    assert "version 2 answers 50%" in (await cli("models", "rollout", "staged", 1)).error
    assert (await cli("rollback", "models/staged")).out == "model/staged champion is version 1\n"
    assert "version 2: taken back on request" in (await cli("describe", "models/staged")).out
    ran = await cli("models", "upload", "staged", files[2])  # the champion stays
    assert "Version 1 stays deployed." in ran.out
    assert (await cli("models", "alias", "staged", "champion", 3)).code == 0
    assert (await cli("rollback", "models/staged")).out == "model/staged champion is version 1\n"


async def test_a_small_file_is_a_version_without_the_object_store_too(cli: Any, cluster: Any, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    for number in (1, 2):
        file.write_bytes(dumps({"w": np.full(4, float(number))}))
        ran = await cli("models", "upload", "by-mqtt", file, "--server", cluster.door)
        assert ran.out.startswith(f"model/by-mqtt version {number} is "), ran
    back = tmp_path / "back.safetensors"
    assert (await cli("models", "download", "by-mqtt", "--out", back)).code == 0
    assert back.read_bytes() == file.read_bytes()


@pytest.mark.parametrize(("words", "said"), [
    (("alias", "of-digits", "blue"), "a version, --edge, --no-edges or --remove"),
    (("alias", "of-digits", "blue", "--edge", "e", "--no-edges"), "either --edge or --no-edges"),
    (("alias", "of-digits", "3", "1"), "a name that is no number"),
    (("alias", "of-digits", "champion", "1", "--edge", "e"), "another alias with edges"),
    (("alias", "of-digits", "champion", "99"), "got 99"),
    (("alias", "nope", "champion", "1"), "List them with 'heliograph get models'"),
    (("versions", "Nope!"), "a DNS label"),
    (("export", "of-digits", "--version", "green"), "got green"),
    (("upload", "of-digits", __file__, "--metric", "accuracy"), "expected NAME=NUMBER"),
    (("rollout", "of-digits", "9"), "expected 1, got 9"),
    (("rollout", "of-digits", "1"), "expected another version than the deployed one"),
    (("rollout", "of-digits", "1", "--share", "2"), "canary.share"),
    (("verify", "/nonexistent", "--keys", "/nonexistent"), "No such file"),
])  # fmt: skip
async def test_a_mistake_is_one_line(cli: Any, job: Any, words: tuple[str, ...], said: str) -> None:
    await _trained(cli, job)
    ran = await cli("models", *words)
    assert ran.code != 0 and said in ran.error, ran
