"""People get a login by an invitation, do what their scope allows in their project, and lose it when it is revoked."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import with_credentials
from heliograph.bus.nats.authority import Authority
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.world import World
from heliograph.edge_agent.confinement.site_policy import SitePolicy
from heliograph.invitations import change_user, invite_user
from heliograph.local.cluster import LocalCluster
from heliograph.user_enrolment import enroll_user, renew_user
from tests.bus.meeting import until_refused
from tests.patience import HANGS


@dataclass
class Cloud:
    cluster: LocalCluster
    client: AsyncClient
    home: Path

    async def enrolled(self, name: str, scope: str = "submitter", project: str = "default") -> str:
        """Invite a user and let it enrol; return the file that names its login."""
        token = await invite_user(self.client, name, scope=scope, project=project)
        return str(await enroll_user(token, self.home / name, World()))

    async def typed(self, server: str, *words: str, text: str = "") -> tuple[int, str]:
        """Type a command as a user; return its exit code and all that it prints."""
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "heliograph.cli.main", *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HELIOGRAPH_SERVER": server, "XDG_STATE_HOME": str(self.home / "state")},
        )  # fmt: skip
        out, _ = await asyncio.wait_for(run.communicate(text.encode()), HANGS)
        return int(run.returncode or 0), out.decode()


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    async with LocalCluster(tmp_path / "c", []) as cluster, AsyncClient(cluster.server) as client:
        yield Cloud(cluster, client, tmp_path)


def model(name: str, project: str = "") -> dict[str, Any]:
    return {"apiVersion": "edgeai.io/v1alpha1", "kind": "Model", "spec": {},
            "metadata": {"name": name, "namespace": project}}  # fmt: skip


async def refused(asked: Any) -> str:
    with pytest.raises(Refused) as found:
        await asked
    return found.value.code


async def test_users_do_what_their_scope_allows_in_their_project(cloud: Cloud) -> None:
    async with (
        AsyncClient(await cloud.enrolled("alice", "submitter", "north")) as alice,
        AsyncClient(await cloud.enrolled("bob", "viewer", "north")) as bob,
        AsyncClient(await cloud.enrolled("carol", "admin", "south")) as carol,
    ):
        made = await alice.models.create(model("one", "north"))
        assert (made["metadata"]["createdBy"], made["metadata"]["namespace"]) == ("alice", "north")
        assert await refused(alice.models.create(model("two", "south"))) == "forbidden"
        assert [each["metadata"]["name"] for each in await bob.models.list()] == ["one"]
        assert await refused(bob.models.delete("one")) == "forbidden"
        assert await refused(bob.models.create(model("two", "north"))) == "forbidden"
        assert await refused(carol.models.get("one")) == "not-found" and await carol.models.list() == []
        for client in (alice, bob, carol):
            for ask in (client.edges.ask("revoke", "edge-1"), client.models.ask("collect"), client.users.list(),
                        change_user(client, "alice", {"north": "operator"})):  # fmt: skip
                if (code := await refused_or_empty(ask)) is not None:
                    assert code in ("forbidden", "not-found")
        assert (await alice.users.get("alice"))["spec"]["grants"] == [{"project": "north", "scope": "submitter"}]
        await change_user(cloud.client, "bob", {"north": "admin"})  # it holds at once
        await bob.models.delete("one")


async def refused_or_empty(asked: Any) -> str | None:
    """Return the code of a refusal; None for an answer that shows at most the caller itself."""
    try:
        answer = await asked
    except Refused as error:
        return error.code
    assert isinstance(answer, list) and len(answer) <= 1
    return None


async def test_a_user_is_invited_enrols_and_is_revoked_by_commands(cloud: Cloud) -> None:
    operator = cloud.cluster.server
    code, word = await cloud.typed(operator, "user", "invite", "dora", "--scope", "admin")
    assert code == 0 and word.startswith("heliograph-invitation.")
    code, said = await cloud.typed(operator, "enroll", "-", text=word)
    assert code == 0, said
    file = said.rpartition("HELIOGRAPH_SERVER=")[2].strip()
    assert {stat.S_IMODE(each.stat().st_mode) for each in Path(file).parent.iterdir()} == {0o600}
    code, again = await cloud.typed(operator, "enroll", "-", text=word)
    assert code != 0 and "used up" in again
    code, said = await cloud.typed(file, "get", "users")
    assert code == 0 and "dora" in said and "admin@default" in said and "submitter" not in said
    code, said = await cloud.typed(file, "user", "invite", "eve")
    assert code != 0 and "expected operator, got" in said and "Traceback" not in said
    code, said = await cloud.typed(file, "user", "token", str(cloud.home / "password"))
    assert code == 0 and stat.S_IMODE((cloud.home / "password").stat().st_mode) == 0o600
    broker = cloud.cluster.broker
    at_door = f"mqtt://dora:{(cloud.home / 'password').read_text()}@127.0.0.1:{broker.mqtt_port}"
    async with AsyncClient(at_door) as by_mqtt, AsyncClient(file) as by_nats:
        assert (await by_mqtt.models.create(model("of-mqtt")))["metadata"]["createdBy"] == "dora"
        assert (await by_nats.models.create(model("of-nats")))["metadata"]["createdBy"] == "dora"
        code, said = await cloud.typed(operator, "user", "revoke", "dora")
        assert code == 0, said
        await asyncio.wait_for(by_mqtt.bus.link.wait_down(), HANGS)
        await asyncio.wait_for(by_nats.bus.link.wait_down(), HANGS)
        for client in (by_mqtt, by_nats):
            await until_refused(client.bus)
    code, said = await cloud.typed(file, "get", "models")
    assert code != 0 and "Traceback" not in said
    await cloud.enrolled("dora", "viewer")  # by another invitation she comes again, with another key
    async with AsyncClient(str(cloud.home / "dora" / "cluster.json")) as dora:
        assert await refused(dora.models.delete("of-nats")) == "forbidden"


async def test_a_login_of_the_cluster_itself_is_no_invited_users(cloud: Cloud) -> None:
    assert await refused(invite_user(cloud.client, "operator", scope="admin", project="default")) == "invalid"
    assert await refused(invite_user(cloud.client, "agent-edge-1", scope="admin", project="default")) == "invalid"


async def test_an_invitation_by_another_key_or_one_that_expired_is_refused(cloud: Cloud) -> None:
    token = await invite_user(cloud.client, "fay", scope="viewer", project="default")
    forged = type(token)(token.server, "", "fay", token.expires, KeyPair("user", World().new_secret()), "user")
    assert await refused(enroll_user(forged, cloud.home / "forged", World())) == "bad-invitation"
    late = await invite_user(cloud.client, "gil", scope="viewer", project="default", seconds=-1)
    assert await refused(enroll_user(late, cloud.home / "late", World())) == "bad-invitation"


async def test_a_login_is_renewed_when_half_of_its_time_is_over(cloud: Cloud) -> None:
    file = Path(await cloud.enrolled("hal"))
    login = file.with_name("login.creds")
    url = with_credentials(cloud.cluster.broker.url(), login)
    before = UserCredentials.read(login)
    assert before.key is not None
    # as an authority would have signed it 16 days ago
    then = before.claims.issued_at - 16 * 86_400
    old = replace(before.claims, issued_at=then, expires=before.claims.expires - 86_400)
    issuer = Authority(cloud.cluster.broker.identity, World())
    token = issuer.users.token("hal", old.expires, *old.tags)
    UserCredentials(token, old, before.key).write(login)
    await renew_user(url, old, World())
    renewed = UserCredentials.read(login).claims
    assert (renewed.subject, renewed.issuer) == (before.claims.subject, before.claims.issuer)
    assert renewed.expires > old.expires
    async with connect(url) as bus:
        await bus.link.wait_up(HANGS)


async def test_a_login_that_cannot_be_renewed_stays_while_it_is_good(cloud: Cloud) -> None:
    file = Path(await cloud.enrolled("ida"))
    login = file.with_name("login.creds")
    url = with_credentials(cloud.cluster.broker.url(), login)
    before = UserCredentials.read(login)
    another_day = World(now=lambda: before.claims.issued_at + 16 * 86_400)
    await renew_user(url, before.claims, another_day)  # the cloud refuses a clock that differs
    assert UserCredentials.read(login).token == before.token
    expired = World(now=lambda: before.claims.expires + 1)
    assert await refused(renew_user(url, before.claims, expired)) == "clock"


async def test_a_user_that_heard_no_answer_asks_again_with_the_same_key(cloud: Cloud) -> None:
    token = await invite_user(cloud.client, "jil", scope="viewer", project="default")
    directory = cloud.home / "jil"
    await enroll_user(token, directory, World())
    login = directory / "login.creds"
    first = UserCredentials.read(login)
    assert first.key is not None
    login.unlink()  # as if the answer had been lost on its way
    (directory / "key.seed").write_text(first.key.seed)
    await enroll_user(token, directory, World())
    assert UserCredentials.read(login).claims.subject == first.claims.subject
    assert not (directory / "key.seed").exists()


async def test_a_node_runs_the_work_of_the_projects_that_its_operator_lists(tmp_path: Path, regression: Any) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit(3)")
    cluster = LocalCluster(tmp_path / "c", ["edge-1"], datasets={"edge-1": {"data": regression("one")}},
                           code=[str(tmp_path)], site_policy=SitePolicy(projects=("default", "north")))  # fmt: skip
    async with cluster, AsyncClient(cluster.server) as client:
        for project in ("north", "south"):
            await client.models.create(model(f"of-{project}", project))
            spec = {
                "aggregationWorker": {"model": {"name": f"of-{project}"}},
                "trainingWorkers": [{"name": "w", "workerSpec": {
                    "dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}}],
            }  # fmt: skip
            await client.jobs.create({"kind": "FederatedTask", "spec": spec,
                                      "metadata": {"name": project, "namespace": project}})  # fmt: skip
        async with asyncio.timeout(HANGS):
            async for job in client.jobs.watch("south"):
                if "project south may not run here; the site policy lists default, north" in json.dumps(job):
                    break
            async for job in client.jobs.watch("north"):
                if "exit code 3" in json.dumps(job):
                    break


async def test_logins_made_with_the_cluster_are_users_too(tmp_path: Path) -> None:
    made = LocalCluster(tmp_path / "c", [], logins={"alice": "a"})
    async with made as cluster, AsyncClient(cluster.server) as client:
        assert [each["metadata"]["name"] for each in await client.users.list()] == ["alice"]
        assert (await change_user(client, "alice", {"north": "viewer"}))["spec"]["grants"] == [
            {"project": "default", "scope": "submitter"}, {"project": "north", "scope": "viewer"},
        ]  # fmt: skip
        async with AsyncClient(cluster.broker.url("alice")) as alice:
            await alice.models.create(model("hers"))
            await client.users.delete("alice")
            await asyncio.wait_for(alice.bus.link.wait_down(), HANGS)
            await until_refused(alice.bus)
        assert await client.users.list() == []
