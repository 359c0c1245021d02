"""``heliograph init`` makes a cloud that runs from its files alone, and changes no key where it is made again."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from heliograph.client import AsyncClient
from heliograph.core.certificates import read_certificate
from heliograph.core.world import World
from heliograph.local.cluster_tls import ClusterTls, Listening
from tests.local.started import Started, command_of, started, typed


async def test_a_cloud_runs_from_what_init_wrote_and_an_edge_enrols(tmp_path: Path) -> None:
    async with started(tmp_path) as cloud:
        node = tmp_path / "node"
        await cloud.enrolled("edge-1", node)
        async with AsyncClient(str(cloud.operator)) as client, cloud.edge("edge-1", node):
            await cloud.online(client, "edge-1")
            await cloud.online(client, "cloud")
            code, said = await typed("doctor", home=tmp_path, variables=cloud.as_operator)
            assert code == 0 and "✗" not in said and "!" not in said, said
            code, said = await typed("get", "edges", home=tmp_path, variables=cloud.as_operator)
            assert code == 0 and "edge-1" in said, said
            before = _contents(cloud.directory)
            code, said = await cloud.init()
            assert code == 0 and "certificates: none is due" in said, said
            assert _contents(cloud.directory) == before
            _make_due(cloud)
            code, said = await cloud.init()
            assert code == 0 and "certificates: renewed" in said and "systemctl reload" in said, said
            changed = {name for name, digest in _contents(cloud.directory).items() if before.get(name) != digest}
            assert changed == {"tls/server.pem", "tls/server.key"}
            await cloud.online(client, "edge-1")


def _make_due(cloud: Started) -> None:
    """Put a certificate in place that has another name, as one that was made for an earlier host."""
    ClusterTls(cloud.directory / "tls", Listening(names=("elsewhere.example",)), World()).certificates.renew()
    file, key = (cloud.directory / "tls" / name for name in ("server.pem", "server.key"))
    assert "elsewhere.example" in read_certificate(file, key).names


def _contents(directory: Path) -> dict[str, str]:
    """Return the digest of each file, but of those that the broker and the agent write."""
    own = ("broker/store", "broker/nats.log", "cloud/", "starts/")
    files = {str(file.relative_to(directory)): file for file in directory.rglob("*") if file.is_file()}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()
            if not name.startswith(own)}  # fmt: skip


async def test_no_secret_stands_in_units_and_environment_and_all_files_are_private(tmp_path: Path) -> None:
    cloud = Started(tmp_path / "cloud", tmp_path, {})
    assert (await cloud.init("--code", f"mine={tmp_path}"))[0] == 0
    files = [file for file in cloud.directory.rglob("*") if file.is_file()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    secrets = [line for file in files if file.suffix == ".creds" for line in file.read_text().splitlines()
               if line.startswith(("SU", "ey"))]  # fmt: skip
    units = [file for file in files if file.parent.name in ("systemd", "environment")]
    written = "".join(file.read_text() for file in units)
    assert secrets and not any(secret in written for secret in secrets)
    argv, environment = command_of(cloud.directory / "systemd" / "heliograph-cloud.service")
    assert argv[-2:] == ["--code", f"mine={tmp_path}"] and "127.0.0.1:4222?" in environment["HELIOGRAPH_CLOUD"]


@pytest.mark.parametrize("there", ["a file", "a directory"])
async def test_what_is_not_ours_stays(tmp_path: Path, there: str) -> None:
    taken = tmp_path / "taken"
    mine = taken if there == "a file" else taken / "mine.txt"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    code, said = await typed("init", str(taken), home=tmp_path)
    assert code != 0 and "expected an empty directory" in said and "Traceback" not in said
    assert mine.read_text() == "mine" and [*tmp_path.rglob("*.pem")] == []
