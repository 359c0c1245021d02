"""A node enrols by an invitation with a key of its own, keeps its login over expiry, loses it when it is revoked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.topics import DEFAULT_ROOT, RENEWAL, REPORT, STATUS, TASK
from heliograph.client import AsyncClient
from heliograph.core.errors import Forbidden, HeliographError, Refused
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.world import World
from heliograph.enrolment import Enrolment, enroll, renew
from heliograph.invitations import invite
from heliograph.local.certificates import Certificates
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_tls import Listening
from heliograph.requester import result_of
from tests.bus.meeting import until_refused
from tests.local.exposed import outer_address
from tests.patience import HANGS

EDGE = "edge-7"
SECONDS = 4


@dataclass
class Cloud:
    """A cluster with the operator's client, and where a further node keeps its files."""

    cluster: LocalCluster
    client: AsyncClient
    home: Path

    @property
    def identity(self) -> Path:
        return self.home / "heliograph" / "agents" / EDGE / "identity"

    async def typed(self, *words: str, text: str = "") -> tuple[int, str]:
        """Type a command on the node; return its exit code and all that it prints."""
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "heliograph.cli.main", *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=os.environ | {"XDG_STATE_HOME": str(self.home)},
        )  # fmt: skip
        out, _ = await asyncio.wait_for(run.communicate(text.encode()), HANGS)
        return int(run.returncode or 0), out.decode()

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run the node's agent, with the broker of ``edge-1`` as that of the node."""
        broker = self.cluster.nodes["edge-1"].broker
        assert broker is not None
        env = os.environ | {"XDG_STATE_HOME": str(self.home), "HELIOGRAPH_NODE": broker.url("agent", "mqtt")}
        words = [sys.executable, "-m", "heliograph.cli.main", "agent", "--name", EDGE]
        process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.DEVNULL, env=env)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.wait(), HANGS)

    async def online(self, wanted: bool) -> None:
        """Wait until the edge is online, or not."""
        async with (
            asyncio.timeout(HANGS),
            self.client.bus.subscribe(STATUS.at(resource="edges", name=EDGE)) as changes,
        ):
            while True:
                found = {each["metadata"]["name"]: each["status"]["online"] for each in await self.client.edges.list()}
                if found.get(EDGE, False) == wanted:
                    return
                await anext(changes)


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    made = LocalCluster(tmp_path / "c", ["edge-1"], login_seconds=SECONDS)
    async with made as cluster, AsyncClient(cluster.server) as client:
        yield Cloud(cluster, client, tmp_path / "state")


@pytest.mark.long
async def test_a_node_enrols_keeps_its_login_and_loses_it(cloud: Cloud) -> None:
    token = await invite(cloud.client, EDGE)
    code, said = await cloud.typed("enroll", "-", text=token.text())
    assert code == 0, said
    assert "heliograph agent --name edge-7" in said and token.key.seed not in said
    login = cloud.identity / "login.creds"
    assert {stat.S_IMODE(file.stat().st_mode) for file in cloud.identity.iterdir()} == {0o600}
    first = UserCredentials.read(login)
    async with cloud.agent(), cloud.client.bus.subscribe(RENEWAL.at(edge=EDGE)) as asked:
        await cloud.online(True)
        async with asyncio.timeout(HANGS):
            await anext(asked)  # over its own connection
            while UserCredentials.read(login).claims.expires <= first.claims.expires + SECONDS:
                await asyncio.sleep(0.2)  # two renewals, over a connection that the broker ends in between
        await cloud.online(True)
        renewed = UserCredentials.read(login)
        assert renewed.key is not None and first.key is not None and renewed.key.public == first.key.public
    await cloud.online(False)
    async with asyncio.timeout(HANGS):
        while World().now() <= UserCredentials.read(login).claims.expires + 1:
            await asyncio.sleep(0.2)  # offline for longer than its login is good
    async with cloud.agent():
        await cloud.online(True)
        await cloud.client.edges.ask("revoke", EDGE)
        assert EDGE not in {each["metadata"]["name"] for each in await cloud.client.edges.list()}
        code, said = await cloud.typed("enroll", "-", text=token.text())
        assert code != 0 and "used up" in said, said
        enrolled = Enrolment.read(cloud.identity)
        assert enrolled is not None
        async with connect(enrolled.cloud) as bus:
            with pytest.raises(HeliographError):
                await bus.link.wait_up(3)
        async with asyncio.timeout(HANGS):
            while World().now() <= UserCredentials.read(login).claims.expires + 1:
                await asyncio.sleep(0.2)  # its agent has tried to renew the login meanwhile
        assert EDGE not in {each["metadata"]["name"] for each in await cloud.client.edges.list()}
    code, said = await cloud.typed("enroll", "-", text=(await invite(cloud.client, EDGE)).text())
    assert code == 0, said
    async with cloud.agent():  # with another key
        await cloud.online(True)


async def test_an_enrolled_edge_reaches_its_own_topics_alone(cloud: Cloud, tmp_path: Path) -> None:
    token = await invite(cloud.client, "hall", nodes=2)
    world = World()
    one, _ = [await enroll(token, f"hall-{n}", tmp_path / f"hall-{n}", world) for n in (1, 2)]
    with pytest.raises(Refused, match="used up"):
        await enroll(token, "hall-3", tmp_path / "hall-3", world)
    with pytest.raises(Refused, match="begins with hall-"):
        await enroll(token, "edge-1", tmp_path / "edge-1", world)
    async with connect(one.cloud, inbox=inbox_of(one.edge)) as bus:
        await bus.link.wait_up(HANGS)
        await bus.publish(REPORT.at(edge="hall-1"), b"{}")
        for address in (REPORT.at(edge="hall-2"), TASK.at(edge="hall-1"), TASK.at(edge="hall-2")):
            with pytest.raises(Forbidden):
                await bus.publish(address, b"{}")
    # asking again with the same key is the same node: it heard no answer
    assert (await enroll(token, "hall-1", tmp_path / "hall-1", world)).cloud == one.cloud


async def test_nodes_of_a_group_have_one_invitation_and_make_their_names_from_the_machines(
    cloud: Cloud, tmp_path: Path
) -> None:
    file, state = tmp_path / "invitation", tmp_path / "node"
    token = await invite(cloud.client, "hall", nodes=2)
    file.write_text(token.text() + "\n")

    async def enrols(node: str, state: Path, *words: str) -> tuple[int, str]:
        return await cloud.typed("enroll", f"@{file}", "--node-name", node, "--state", str(state), *words)

    code, said = await enrols("Edge-7.hall", state)
    enrolled = Enrolment.read(state / "identity")
    assert code == 0 and enrolled is not None, said
    assert enrolled.edge.startswith("hall-edge-7-hall-") and f"edge/{enrolled.edge} enrolled" in said
    assert token.key.seed not in said
    # a node that was revoked stays so, whatever starts there; with another key it may enrol again
    shown = (await cloud.client.edges.get(enrolled.edge))["status"]
    assert (shown["invitation"], shown["node"]) == ("hall", "Edge-7.hall")
    before = UserCredentials.read(state / "identity" / "login.creds").claims.subject
    await cloud.client.edges.ask("revoke", enrolled.edge)
    assert (await enrols("Edge-7.hall", state, "--once"))[0] == 0
    assert UserCredentials.read(state / "identity" / "login.creds").claims.subject == before
    assert (await enrols("Edge-7.hall", state))[0] == 0
    assert UserCredentials.read(state / "identity" / "login.creds").claims.subject != before
    other = tmp_path / "other"
    code, said = await enrols("edge-8", other, "--once")
    assert (code, said.splitlines()[0]) == (0, f"edge/hall-edge-8 enrolled; its login lies in {other}/identity")
    code, said = await enrols("edge-9", tmp_path / "third", "--once")
    assert code != 0 and "used up" in said
    assert {"hall-edge-8", enrolled.edge} <= {each["metadata"]["name"] for each in await cloud.client.edges.list()}
    await cloud.client.invitations.delete("hall")
    file.unlink()
    code, said = await enrols("Edge-7.hall", state, "--once")  # neither file nor cloud is asked
    assert (code, said.startswith(f"edge/{enrolled.edge} has enrolled already")) == (0, True)
    code, said = await enrols("edge-9", tmp_path / "third", "--once")
    assert (code, said) == (1, f"error: {file}: No such file or directory\n")
    file.write_bytes(b"\xff" * 9000)
    code, said = await enrols("edge-9", tmp_path / "third")
    assert code != 0 and "one word that begins with heliograph-invitation." in said
    code, said = await enrols("edge-9", tmp_path / "third", "--name", "hall-9")
    assert code == 2


async def test_a_node_enrols_by_tls_and_knows_the_cloud_by_its_authority(tmp_path: Path) -> None:
    listening = Listening(names=("localhost",))
    async with (
        LocalCluster(tmp_path / "c", [], listening=listening) as cluster, AsyncClient(cluster.server) as client,
    ):  # fmt: skip
        token = await invite(client, EDGE, address=f"tls://localhost:{cluster.broker.port}")
        assert "BEGIN CERTIFICATE" in token.authorities
        enrolled = await enroll(token, EDGE, tmp_path / "node", World())
        async with connect(enrolled.cloud, inbox=inbox_of(EDGE)) as bus:
            await bus.link.wait_up(HANGS)
            await bus.publish(REPORT.at(edge=EDGE), b"{}")
        assert (tmp_path / "node" / "ca.pem").read_text() == token.authorities
        stranger = replace(token, authorities=_another_authority(tmp_path))
        with pytest.raises(HeliographError):
            await enroll(stranger, EDGE, tmp_path / "other", World())


async def test_a_node_that_heard_no_answer_asks_again_with_the_same_key(cloud: Cloud) -> None:
    token = await invite(cloud.client, EDGE)
    await enroll(token, EDGE, cloud.identity, World())
    login = cloud.identity / "login.creds"
    first = UserCredentials.read(login)
    assert first.key is not None
    login.unlink()  # as if the answer had been lost on its way
    (cloud.identity / "key.seed").write_text(first.key.seed)
    await enroll(token, EDGE, cloud.identity, World())
    assert UserCredentials.read(login).claims.subject == first.claims.subject


async def test_a_client_of_another_machine_enrols_and_is_not_anonymous(tmp_path: Path) -> None:
    address = outer_address()
    if not address:
        pytest.skip("this machine has no address but loopback")
    listening = Listening("0.0.0.0", (address,))
    async with (
        LocalCluster(tmp_path / "c", [], listening=listening) as cluster, AsyncClient(cluster.server) as client,
    ):  # fmt: skip
        token = await invite(client, EDGE, address=f"tls://{address}:{cluster.broker.port}")
        enrolled = await enroll(token, EDGE, tmp_path / "node", World())
        async with connect(enrolled.cloud, inbox=inbox_of(EDGE)) as bus:
            await bus.link.wait_up(HANGS)
            await bus.publish(REPORT.at(edge=EDGE), b"{}")
        files = f"?ca={tmp_path / 'node' / 'ca.pem'}"
        for scheme, port in (("tls", cluster.broker.port), ("mqtts", cluster.broker.mqtt_port)):
            async with connect(f"{scheme}://{address}:{port}{files}") as bus:
                await until_refused(bus)


def _another_authority(directory: Path) -> str:
    made = Certificates(directory / "stranger", ("localhost",), World())
    made.renew()
    assert made.ca is not None
    return made.ca.read_text()


async def test_an_invitation_is_listed_withdrawn_and_replaced(cloud: Cloud, tmp_path: Path) -> None:
    token, world = await invite(cloud.client, EDGE), World()
    (listed,) = await cloud.client.invitations.list()
    assert token.key.seed not in str(listed)
    again = await invite(cloud.client, EDGE)
    with pytest.raises(Refused, match="by the key of invitation edge-7"):
        await enroll(token, EDGE, tmp_path / "a", world)
    await cloud.client.invitations.delete(EDGE)
    with pytest.raises(Refused) as refused:
        await enroll(again, EDGE, tmp_path / "b", world)
    assert refused.value.code == "not-found"
    with pytest.raises(Refused) as refused:
        await cloud.client.edges.ask("revoke", "edge-9")
    assert refused.value.code == "not-found"


async def test_a_group_is_revoked_by_one_command(cloud: Cloud, tmp_path: Path) -> None:
    world, server = World(), ("--server", cloud.cluster.server)
    before = await invite(cloud.client, "hall", nodes=9)
    stolen = [await enroll(before, f"hall-{n}", tmp_path / f"hall-{n}", world) for n in (1, 2)]
    again = await invite(cloud.client, "hall", nodes=9)
    stolen.append(await enroll(again, "hall-3", tmp_path / "hall-3", world))
    other = await enroll(await invite(cloud.client, "hall-9"), "hall-9", tmp_path / "hall-9", world)
    await cloud.client.edges.delete("hall-2")  # its login is good still
    code, said = await cloud.typed("edge", "revoke", "--group", "hall", "--dry-run", *server)
    assert (code, said.splitlines()) == (0, [
        "group hall: 3 edges have enrolled by its invitation",
        *(f"edge/hall-{n} would be revoked" for n in (1, 2, 3)), "invitation/hall would be withdrawn"])  # fmt: skip
    async with asyncio.timeout(HANGS), contextlib.AsyncExitStack() as stack:
        links = [await stack.enter_async_context(connect(each.cloud, inbox=inbox_of(each.edge)))
                 for each in (*stolen, other)]  # fmt: skip
        for link in links:
            await link.link.wait_up(HANGS)
        code, said = await cloud.typed("edge", "revoke", "--group", "hall", *server)
        assert (code, said.splitlines()[1:]) == (
            0, [*(f"edge/hall-{n} revoked" for n in (1, 2, 3)), "invitation/hall withdrawn"])  # fmt: skip
        for link in links[:3]:
            await until_refused(link)
        await links[3].publish(REPORT.at(edge="hall-9"), b"{}")
    left = {each["metadata"]["name"] for each in await cloud.client.edges.list()}
    assert not left & {"hall-1", "hall-2", "hall-3"} and "hall-9" in left
    with pytest.raises(Refused) as refused:
        await enroll(again, "hall-4", tmp_path / "hall-4", world)
    assert refused.value.code == "not-found"
    for words, expected in ((("--group", "hall"), 4), ((), 2), (("hall-9", "--group", "hall"), 2),
                            (("hall-9", "--dry-run"), 2)):  # fmt: skip
        code, said = await cloud.typed("edge", "revoke", *words, *server)
        assert code == expected and "Traceback" not in said, said


async def test_an_edge_with_a_login_renews_it_by_a_request_of_its_own(cloud: Cloud, tmp_path: Path) -> None:
    enrolled = await enroll(await invite(cloud.client, EDGE), EDGE, tmp_path / "node", World())
    async with (
        asyncio.timeout(HANGS), cloud.client.bus.subscribe(RENEWAL.filter()) as asked,
        connect(enrolled.cloud, inbox=inbox_of(EDGE)) as bus,
    ):  # fmt: skip
        await bus.link.wait_up(HANGS)
        before = UserCredentials.read(tmp_path / "node" / "login.creds").claims
        due = await renew(enrolled.cloud, World(), DEFAULT_ROOT, bus)
        assert (await anext(asked)).topic == f"edge/{EDGE}/up/renewal"
        assert due >= before.renew_at
        # its answer goes to its own account, whatever it names
        body = {"token": "x", "at": 0, "signature": "x" * 86, "reply_to": "heliograph/reply/operator/1"}
        with pytest.raises(Refused, match="reply_to"):
            result_of((await bus.request(RENEWAL.at(edge=EDGE), json.dumps(body).encode(), HANGS)).body)
