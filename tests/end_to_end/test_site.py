"""A server of a site: agents connect to it alone, and the cloud sees them as if they had come by themselves."""

from __future__ import annotations

import asyncio
import base64
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
from heliograph.bus.contract.enrolment_requests import renewal_bytes
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.topics import DEFAULT_ROOT, RENEWAL
from heliograph.bus.nats.authority_keys import FILE, AuthorityKeys
from heliograph.bus.transport import Bus
from heliograph.client import AsyncClient
from heliograph.core.errors import Forbidden, Refused
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.tokens import encode
from heliograph.core.world import World
from heliograph.local.child import Child
from heliograph.local.nats_server import find_nats_server, free_ports
from heliograph.login_requests import renewed_by_edge
from heliograph.requester import Requester, result_of
from heliograph.server import Server
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

    def login(self, edge: str) -> UserCredentials:
        return UserCredentials.read(self.state(edge) / "identity" / "login.creds")

    def expire(self, edge: str) -> None:
        """Give an edge a login in place of its own that has expired, as after days without a link."""
        keys = AuthorityKeys.read(self.cloud.directory / "broker" / "identity" / FILE, World())
        key, now = self.login(edge).key, World().now()
        assert key is not None
        claims = UserClaims(subject=key.public, name=f"agent-{edge}", expires=int(now) - 60)
        token = encode(claims, keys.accounts[f"agent-{edge}"], now - 3600)
        UserCredentials(token, claims, key).write(self.state(edge) / "identity" / "login.creds")

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
        await server.wait_for_line("Leafnode connection created", HANGS, times=len(EDGES) + 2)
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
        bus = connect(there.url("hall-1"), world=World(), name="agent-hall-1", inbox=inbox_of("hall-1"))
        async with asyncio.timeout(HANGS), bus:
            await bus.link.wait_up(HANGS)
            before = there.login("hall-1")
            after = await renewed_by_edge(bus, there.url("hall-1"), World())
            assert (after.expires, after.subject) >= (before.claims.expires, before.claims.subject)
            assert there.login("hall-1").token != before.token
            with pytest.raises(Refused, match="expected the login of edge hall-1, which asks, got that"):
                await _asks(bus, "hall-1", there.login("hall-2"))
            with pytest.raises(Forbidden):
                await _asks(bus, "hall-2", there.login("hall-2"))
            code, said = await typed("edge", "revoke", "hall-1", home=tmp_path, variables=there.cloud.as_operator)
            assert code == 0, said
            await until_refused(bus)
        # the link of its account ends too: whoever has the site's directory reaches nothing by it
        await there.server.wait_for_line("Leafnode Error 'Authorization Violation'", HANGS)
        # one whose login has expired renews it by the site's server too, which lets it ask for nothing else
        there.expire("hall-2")
        async with there.agent("hall-2"):
            await there.cloud.online(client, "hall-2")
        assert there.login("hall-2").claims.expires > World().now()
        ca = there.state("hall-2") / "identity" / "ca.pem"
        async with Requester(Server(f"tls://newcomer@localhost:{there.port}?ca={ca}"), DEFAULT_ROOT, HANGS, HANGS,
                             0.0) as newcomer:  # fmt: skip
            with pytest.raises(Forbidden):
                await newcomer.request("invitations", "enroll", {})


async def _asks(bus: Bus, edge: str, login: UserCredentials) -> None:
    """Ask as an edge for a longer login in place of this one."""
    at = int(World().now())
    assert login.key is not None
    signature = base64.urlsafe_b64encode(login.key.sign(renewal_bytes(login.token, at))).decode().rstrip("=")
    body = {"token": login.token, "at": at, "signature": signature}
    result_of((await bus.request(RENEWAL.at(edge=edge), json.dumps(body).encode(), HANGS)).body)


async def test_a_sites_directory_has_no_key_that_signs_and_knows_its_edges_alone(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        files = {file.name: file.read_text() for file in (tmp_path / "carried").iterdir()}
        assert set(files) == {"nats.conf", "ca.pem", "server.pem", "server.key", "SYS.creds",
                              "ENROL.creds", *(f"{edge}.creds" for edge in EDGES)}  # fmt: skip
        assert not re.search(r"\bS[AO][A-Z2-7]{50,}", "".join(files.values())), "a seed of an account or the operator"
        config = json.loads(files["nats.conf"])
        assert len(config["resolver_preload"]) == len(EDGES) + 2
        assert "jetstream" not in config and str(tmp_path) not in files["nats.conf"]
        for name in (*EDGES, "SYS", "ENROL"):
            claims = UserCredentials.read(tmp_path / "carried" / f"{name}.creds").claims
            assert claims.connection_types == ("LEAFNODE",)
            assert claims.name == ("newcomer" if name == "ENROL" else "site-berlin")
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
