"""A server of a site: agents connect to it alone, and the cloud sees them as if they had come by themselves."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import with_credentials
from heliograph.bus.contract.permissions import inbox_of
from heliograph.client import AsyncClient
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.world import World
from heliograph.enrolment import renew
from heliograph.local.child import Child
from heliograph.local.nats_server import find_nats_server, free_ports
from tests.bus.meeting import until_refused
from tests.local.started import Started, typed
from tests.patience import HANGS

EDGES = ("hall-1", "hall-2")


@dataclass
class Site:
    """A cloud, and the server of one of its sites."""

    cloud: Started
    port: int
    server: Child

    def state(self, edge: str) -> Path:
        return self.cloud.home / edge

    def url(self, edge: str) -> str:
        """Return the URL of the site's server with an edge's login."""
        identity = self.state(edge) / "identity"
        return with_credentials(f"tls://localhost:{self.port}?ca={identity / 'ca.pem'}", identity / "login.creds")

    @asynccontextmanager
    async def agent(self, edge: str) -> AsyncIterator[Child]:
        (nobody,) = free_ports(1)
        argv = [sys.executable, "-m", "heliograph.cli.main", "agent", "--state", str(self.state(edge)), "--node",
                f"mqtt://127.0.0.1:{nobody}"]  # fmt: skip
        variables = {"HELIOGRAPH_CLOUD": self.url(edge),
                     "HELIOGRAPH_COORDINATOR_KEYS": str(self.state(edge) / "identity" / "cloud-keys.pem")}  # fmt: skip
        child = Child(edge, argv, variables, self.cloud.home, World(), lambda line: None)
        await child.start()
        try:
            yield child
        finally:
            await child.stop()


@asynccontextmanager
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    cloud = Started(tmp_path / "cloud", tmp_path, {})
    port, mqtt_port, leaf_port, site_port = free_ports(4)
    code, said = await cloud.init("--tls-name", "localhost", "--port", str(port), "--mqtt-port", str(mqtt_port),
                                  "--leaf-port", str(leaf_port))  # fmt: skip
    assert code == 0, said
    server = None
    try:
        for name in ("broker", "coordinator"):
            await cloud.start(name)
        for edge in EDGES:
            await cloud.enrolled(edge, tmp_path / edge)
        code, said = await typed("site", str(cloud.directory), "berlin", *(f"--edge={edge}" for edge in EDGES),
                                 "--tls-name", "localhost", "--port", str(site_port), home=tmp_path)  # fmt: skip
        assert code == 0, said
        there = tmp_path / "carried"
        shutil.move(cloud.directory / "sites" / "berlin", there)
        argv = [str(find_nats_server()), "-c", "nats.conf"]
        server = Child("site", argv, {}, there, World(), lambda line: None)
        await server.start()
        await server.wait_for_line("Leafnode connection created", HANGS, times=len(EDGES) + 1)
        yield Site(cloud, site_port, server)
    finally:
        if server is not None:
            await server.stop()
        for name in ("coordinator", "broker"):
            await cloud.stop(name)


async def test_agents_of_a_site_are_seen_steered_renewed_and_revoked_by_its_server(tmp_path: Path) -> None:
    async with site(tmp_path) as there, AsyncClient(str(there.cloud.operator)) as client:
        async with there.agent("hall-1"):
            async with there.agent("hall-2"):
                for edge in EDGES:
                    await there.cloud.online(client, edge)
                await there.cloud.start("coordinator")  # another one asks who is there
                for edge in EDGES:
                    await there.cloud.online(client, edge)
            await there.cloud.online(client, "hall-2", wanted=False)
            # nothing tells of an edge behind a link that is gone
            await there.server.stop()
            await there.cloud.online(client, "hall-1", wanted=False)
            await there.server.start()
            await there.cloud.online(client, "hall-1")
        before = UserCredentials.read(there.state("hall-2") / "identity" / "login.creds").claims
        await renew(there.url("hall-2"), World())
        after = UserCredentials.read(there.state("hall-2") / "identity" / "login.creds").claims
        assert after.expires >= before.expires and after.subject == before.subject
        assert any('authentication error - User "newcomer"' in line for line in there.server.lines)

        bus = connect(there.url("hall-1"), world=World(), name="agent-hall-1", inbox=inbox_of("hall-1"))
        async with asyncio.timeout(HANGS), bus:
            await bus.link.wait_up(HANGS)
            code, said = await typed("edge", "revoke", "hall-1", home=tmp_path, variables=there.cloud.as_operator)
            assert code == 0, said
            await until_refused(bus)
        async with there.agent("hall-2"):
            await there.cloud.online(client, "hall-2")


async def test_a_sites_directory_has_no_key_that_signs_and_knows_its_edges_alone(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        files = {file.name: file.read_text() for file in (tmp_path / "carried").iterdir()}
        assert set(files) == {"nats.conf", "ca.pem", "server.pem", "server.key", "system.creds",
                              *(f"{edge}.creds" for edge in EDGES)}  # fmt: skip
        assert not re.search(r"\bS[AO][A-Z2-7]{50,}", "".join(files.values())), "a seed of an account or the operator"
        config = json.loads(files["nats.conf"])
        assert len(config["resolver_preload"]) == len(EDGES) + 1
        assert "jetstream" not in config and str(tmp_path) not in files["nats.conf"]
        for name in (*EDGES, "system"):
            claims = UserCredentials.read(tmp_path / "carried" / f"{name}.creds").claims
            assert claims.connection_types == ("LEAFNODE",) and claims.name == "site-berlin"
        assert not any("ERR" in line for line in there.server.lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "expected a cloud that takes servers of sites, got one that does not"),
        (("--leaf-port", "7422"), "field --edge: expected edges that have enrolled: none has, got hall-1"),
    ],
)
async def test_what_a_site_lacks_is_named(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    cloud = Started(tmp_path / "cloud", tmp_path, {})
    assert (await cloud.init("--tls-name", "localhost", *options))[0] == 0
    code, said = await typed("site", str(cloud.directory), "berlin", "--edge", "hall-1", "--tls-name", "localhost",
                             home=tmp_path)  # fmt: skip
    assert code != 0 and message in said and "Traceback" not in said
