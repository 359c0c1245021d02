"""Accounts on a real broker: an edge reaches nothing that is not its own, even where its permissions would let it.

The attackers here have logins without any permissions set, as the key of their account could sign them: what holds then
is the border of the account alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import nats.errors
import pytest

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import with_credentials, with_user
from heliograph.bus.contract.permissions import NEWCOMER, inbox_of
from heliograph.bus.contract.topics import CLAIM, MODEL_UPDATE, REPORT, TASK, TELEMETRY
from heliograph.bus.nats.authority_keys import FILE
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import Message, Outgoing
from heliograph.core.errors import Forbidden, HeliographError
from heliograph.core.identity.claims import AccountClaims, Allowed, UserClaims
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import decode, encode
from heliograph.core.world import World
from heliograph.local.nats_server import SYSTEM_USER, Broker
from tests.bus.meeting import PATIENCE, following, until_refused
from tests.bus.roles import MARKER, Start, agent, connected, coordinator

EDGE, OTHER = "edge-1", "edge-2"
WHOLE = Allowed((">",), (">",))
OTHERS = [
    f"heliograph.edge.{OTHER}.down.task",
    f"heliograph.edge.{OTHER}.up.report",
    f"heliograph.edge.{OTHER}.up.model-update.job-1",
    f"heliograph.event.telemetry.{OTHER}.camera",
    f"heliograph.edge.{EDGE}.down.task",
    "heliograph.event.aggregation.job-1",
    "heliograph.status.jobs.one",
    "heliograph.reply.alice.1",
    "heliograph.request.jobs.delete",
    "$JS.API.STREAM.DELETE.TASKS",
    "$JS.API.STREAM.PURGE.REPORTS",
    "$KV.resources.jobs.one",
    "$O.models.C.x",
    f"_INBOX.{OTHER}.1",
]
"""Subjects that edge-1 must not reach, as a publisher or by a reply subject."""
ASKED = [
    (f"heliograph.edge.{EDGE}.up.report", b"{}"),
    (f"heliograph.edge.{EDGE}.up.model-update.job-1", b"{}"),
    (f"heliograph.event.telemetry.{EDGE}.camera", b"{}"),
    (f"$JS.API.DIRECT.GET.TASKS.heliograph.edge.{EDGE}.down.task", b""),
    (f"$JS.API.DIRECT.GET.REPORTS.heliograph.edge.{EDGE}.up.report", b""),
    (f"$JS.API.DIRECT.GET.TASKS.heliograph.edge.{EDGE}.>", b'{"multi_last": [">"]}'),
]
"""What edge-1 may ask, each of which the cloud answers."""


def key_of(broker: Broker, account: str) -> KeyPair:
    return KeyPair.from_seed(json.loads((broker.directory / "identity" / FILE).read_text())["accounts"][account])


def signed_login(broker: Broker, account: str, claims: UserClaims, key: KeyPair, signer: KeyPair | None = None) -> Path:
    """Write a login that the account's key, or another one, has signed."""
    token = encode(claims, signer or key_of(broker, account), World().now())
    file = broker.directory / f"{World().new_id()}.creds"
    UserCredentials(token, claims, key).write(file)
    return file


@asynccontextmanager
async def unlimited(broker: Broker, account: str) -> AsyncIterator[NatsBus]:
    """Connect to an account with a login that no permission limits."""
    key = KeyPair("user", World().new_secret())
    file = signed_login(broker, account, UserClaims(subject=key.public, name="attacker", allowed=WHOLE), key)
    async with connect(with_credentials(broker.url(), file), name="attacker") as bus:
        await bus.link.wait_up(PATIENCE)
        assert isinstance(bus, NatsBus)
        yield bus


async def seen_until_marker(messages: AsyncIterator[Message], cloud: NatsBus) -> list[str]:
    """Return the topics that arrive before a message that the coordinator publishes now."""
    await cloud.publish(MARKER, b"{}")
    found = []
    while (topic := (await following(messages)).topic) != MARKER:
        found.append(topic)
    return found


async def test_an_edge_does_all_that_it_has_to(broker: Start) -> None:
    server = await broker()
    async with coordinator(server) as cloud, agent(server, EDGE) as edge:
        assert await edge.publish(REPORT.at(edge=EDGE), b"{}") == 1
        await cloud.publish(TASK.at(edge=EDGE), b"of one")
        kept = await edge.last(TASK.at(edge=EDGE))
        assert kept is not None
        assert kept.body == b"of one"
        topic = MODEL_UPDATE.at(edge=EDGE, job="job-1")
        await edge.publish_all([Outgoing(topic, b"%d" % n, {"Heliograph-Number": str(n)}) for n in range(1000)])
        newest = await edge.last(topic)
        assert newest is not None
        assert (newest.body, newest.headers["Heliograph-Number"], newest.sequence) == (b"999", "999", 1000)
        await edge.publish(TELEMETRY.at(edge=EDGE, device="camera"), b"frame")
        assert await edge.last(TELEMETRY.at(edge=EDGE, device="camera")) is not None
        async with edge.subscribe(TASK.at(edge=EDGE)) as tasks:
            await cloud.publish(TASK.at(edge=EDGE), b"again")
            assert (await following(tasks)).body == b"again"
        async with agent(server, EDGE) as second, second.subscribe(CLAIM.at(edge=EDGE)) as claims:
            asking = asyncio.create_task(edge.request(CLAIM.at(edge=EDGE), b"mine?", PATIENCE))
            claim = await following(claims)
            assert claim.reply_to is not None
            await second.publish(claim.reply_to, b"taken")
            assert (await asking).body == b"taken"


async def test_an_edge_publishes_nothing_elsewhere(broker: Start) -> None:
    server = await broker()
    async with (
        coordinator(server) as cloud, unlimited(server, f"agent-{EDGE}") as edge, agent(server, OTHER) as other,
        cloud.subscribe("#") as messages, connected(server, "alice") as alice,
        alice.subscribe("reply/alice/+") as replies,
    ):  # fmt: skip
        await cloud.publish(TASK.at(edge=OTHER), b"honest")
        assert (await following(messages)).topic == TASK.at(edge=OTHER)
        inbox = await other.connection.client.subscribe(f"_INBOX.{OTHER}.>")  # type: ignore[attr-defined]
        for subject in OTHERS:
            await edge.connection.client.publish(subject, b"forged")
        await edge.connection.settle()
        assert await seen_until_marker(messages, cloud) == []
        await cloud.publish("reply/alice/1", b"honest")
        assert (await following(replies)).body == b"honest"
        assert inbox.pending_msgs == 0
        kept = await other.last(TASK.at(edge=OTHER))
        assert kept is not None
        assert kept.body == b"honest"
        assert await cloud.last(REPORT.at(edge=OTHER)) is None


@pytest.mark.parametrize(("asked", "body"), ASKED)
async def test_a_forged_reply_subject_reaches_nothing(broker: Start, asked: str, body: bytes) -> None:
    """NATS does not check reply subjects: an answer of the cloud goes where the asker says, in the asker's account."""
    server = await broker()
    async with (
        coordinator(server) as cloud, unlimited(server, f"agent-{EDGE}") as edge, agent(server, OTHER) as other,
    ):  # fmt: skip
        await cloud.publish(TASK.at(edge=EDGE), b'{"poison": true}')
        await edge.publish(REPORT.at(edge=EDGE), b'{"poison": true}')
        await cloud.publish(TASK.at(edge=OTHER), b"honest")
        inbox = await other.connection.client.subscribe(f"_INBOX.{OTHER}.>")  # type: ignore[attr-defined]
        async with cloud.subscribe("#") as messages, other.subscribe(TASK.at(edge=OTHER)) as tasks:
            for reply in OTHERS:
                await edge.connection.client.publish(asked, body, reply=reply)
            await edge.connection.client.request(asked, body, timeout=PATIENCE)  # the cloud has answered all
            seen = await seen_until_marker(messages, cloud)
            assert {each for each in seen if cloud.subjects.subject(each) != asked} == set()
            await cloud.publish(TASK.at(edge=OTHER), b"newer")
            assert (await following(tasks)).body == b"newer"
        assert inbox.pending_msgs == 0
        kept = await cloud.last(TASK.at(edge=EDGE))
        assert kept is not None
        assert kept.body == b'{"poison": true}'
        assert await cloud.last(REPORT.at(edge=OTHER)) is None
        assert await cloud.last(TASK.at(edge=OTHER)) is not None  # no stream was deleted or purged
        assert await cloud.last(REPORT.at(edge=EDGE)) is not None


async def test_an_edge_hears_nothing_of_others(broker: Start) -> None:
    server = await broker()
    async with (
        coordinator(server) as cloud, unlimited(server, f"agent-{EDGE}") as edge, agent(server, OTHER) as other,
        connected(server, "alice") as alice,
    ):  # fmt: skip
        client = edge.connection.client
        heard = [await client.subscribe(subject) for subject in (">", "heliograph.>", "heliograph.edge.*.down.>",
                 f"heliograph.edge.{OTHER}.>", "$JS.>", "_INBOX.>", "_R_.>", "$KV.>", "$O.>", "$SYS.>")]  # fmt: skip
        await edge.connection.settle()
        await cloud.publish(TASK.at(edge=OTHER), b"secret")
        await other.publish(REPORT.at(edge=OTHER), b"secret")
        await other.last(TASK.at(edge=OTHER))
        await cloud.publish("reply/alice/1", b"secret")
        async with cloud.subscribe("request/#") as requests:
            asking = asyncio.create_task(alice.request("request/jobs/list", b"secret", PATIENCE))
            request = await following(requests)
            assert request.reply_to is not None
            await cloud.publish(request.reply_to, b"secret")
            await asking
        await cloud.publish(TASK.at(edge=EDGE), b"own")
        await edge.connection.settle()
        found = [(await each.next_msg(PATIENCE)).data for each in heard if each.pending_msgs]
        assert set(found) == {b"own"}
        assert all(each.pending_msgs == 0 for each in heard)


async def test_an_edge_makes_no_stream_and_reads_no_other_ones_events(broker: Start) -> None:
    server = await broker()
    tries: dict[str, object] = {
        "$JS.API.STREAM.CREATE.COPY": {"name": "COPY", "sources": [{"name": "TASKS"}]},
        "$JS.API.STREAM.CREATE.MIRROR": {"name": "MIRROR", "mirror": {"name": "TASKS"}},
        "$JS.API.STREAM.CREATE.GREEDY": {"name": "GREEDY", "subjects": ["heliograph.edge.>"]},
        "$JS.API.STREAM.CREATE.KV_mine": {"name": "KV_mine", "subjects": ["$KV.mine.>", "heliograph.reply.>"]},
        f"$JS.API.STREAM.CREATE.OBJ_up-{EDGE}": {"name": f"OBJ_up-{EDGE}", "sources": [{"name": "TASKS"}]},
        f"$JS.API.STREAM.UPDATE.OBJ_up-{EDGE}": {"name": f"OBJ_up-{EDGE}", "sources": [{"name": "TASKS"}]},
        "$JS.API.STREAM.NAMES": {},
        "$JS.API.STREAM.INFO.TASKS": {},
        "$JS.API.STREAM.PURGE.TASKS": {},
        "$JS.API.STREAM.DELETE.TASKS": {},
        "$JS.API.STREAM.MSG.GET.TASKS": {"last_by_subj": f"heliograph.edge.{OTHER}.down.task"},
        "$JS.API.DIRECT.GET.TASKS": {"last_by_subj": f"heliograph.edge.{OTHER}.down.task"},
        f"$JS.API.DIRECT.GET.TASKS.heliograph.edge.{OTHER}.down.task": {},
        f"$JS.API.DIRECT.GET.TASKS.heliograph.edge.{EDGE}.down.task": {
            "last_by_subj": f"heliograph.edge.{OTHER}.down.task"
        },
        f"$JS.API.DIRECT.GET.TASKS.heliograph.edge.{EDGE}.>": {"multi_last": [">"], "batch": 10, "seq": 1},
        "$JS.API.DIRECT.GET.TASKS.heliograph.edge.*.down.task": {},
        "$JS.API.DIRECT.GET.KV_resources.$KV.resources.jobs.one": {},
        "$JS.API.CONSUMER.CREATE.TASKS": {"stream_name": "TASKS", "config": {"ack_policy": "none"}},
        "$JS.API.CONSUMER.MSG.NEXT.TASKS.mine": {},
        "$JS.API.INFO": {},
    }
    async with coordinator(server) as cloud, unlimited(server, f"agent-{EDGE}") as edge:
        await cloud.kv("resources")
        await cloud.publish(TASK.at(edge=OTHER), b"secret")
        before = await cloud.connection.ask("$JS.API.STREAM.NAMES")
        for subject, body in tries.items():
            for payload in (b"", json.dumps(body).encode()):
                with contextlib.suppress(nats.errors.Error):
                    answer = await edge.connection.client.request(subject, payload, timeout=0.3)
                    assert b"secret" not in answer.data, subject
                    status = (answer.headers or {}).get("Status")
                    assert status in ("404", "408", "503") or b"JetStream not enabled" in answer.data, (subject, answer)
        after = await cloud.connection.ask("$JS.API.STREAM.NAMES")
        assert after["streams"] == before["streams"]
        assert await cloud.last(TASK.at(edge=OTHER)) is not None


async def test_a_user_is_who_the_token_says(broker: Start) -> None:
    """Neither a header, nor the name of the connection, nor the user that an MQTT client names changes it."""
    server = await broker()
    forged = {"Nats-Request-Info": '{"name_tag": "operator", "acc": "CORE"}'}
    async with coordinator(server) as cloud, cloud.subscribe("request/#") as requests:
        async with unlimited(server, "user-alice") as attacker:
            await attacker.connection.client.publish("heliograph.request.jobs.list", b"{}", headers=forged)
            assert (await following(requests)).sender == "attacker"  # as the key of the account has signed
        async with connected(server, "alice") as alice:
            assert isinstance(alice, NatsBus)
            await alice.connection.client.publish("heliograph.request.jobs.list", b"{}", headers=forged)
            message = await following(requests)
            assert (message.sender, message.headers) == ("alice", {})
        url = f"mqtt://operator:{server.password('alice')}@{server.host}:{server.mqtt_port}"
        async with connect(url, name="operator") as lying:
            await lying.link.wait_up(PATIENCE)
            await lying.publish("request/jobs/list", b"{}")
            assert (await following(requests)).sender == "alice"


async def test_an_answer_is_no_request_of_its_sender(broker: Start) -> None:
    """A reply subject that is a request's would let the coordinator ask in its own name."""
    server = await broker()
    async with coordinator(server) as cloud, unlimited(server, "user-alice") as attacker:
        async with cloud.subscribe("request/#") as requests:
            for reply in ("heliograph.request.jobs.delete", "heliograph.reply.bob.1"):
                await attacker.connection.client.publish("heliograph.request.jobs.list", b"{}", reply=reply)
                request = await following(requests)
                assert request.reply_to is not None
                await cloud.publish(request.reply_to, b'{"name": "victim"}')
            await cloud.publish(MARKER, b"{}")
            assert (await following(requests)).topic == MARKER


async def test_a_newcomer_asks_for_a_login_and_reaches_nothing_else(broker: Start) -> None:
    """An answer goes where the asker says: here that is an account in which nobody listens but newcomers."""
    server = await broker()
    async with (
        coordinator(server) as cloud, cloud.subscribe("#") as messages, connected(server) as stranger,
        stranger.subscribe("status/#") as statuses, connected(server, "alice") as alice,
        alice.subscribe("reply/alice/+") as replies, connect(with_user(server.url(), NEWCOMER)) as newcomer,
    ):  # fmt: skip
        await newcomer.link.wait_up(PATIENCE)
        assert isinstance(newcomer, NatsBus)
        client = newcomer.connection.client
        heard = [await client.subscribe(subject) for subject in (">", "heliograph.>", "_INBOX.>", "_R_.>", "$SYS.>")]
        asking = "heliograph.request.invitations.renew"
        for reply in OTHERS:
            await client.publish(reply, b"forged")
            await client.publish(asking, b"{}", reply=reply)
            request = await following(messages)
            assert (request.topic, request.sender) == ("request/invitations/renew", NEWCOMER)
            assert request.reply_to is not None
            await cloud.publish(request.reply_to, b"answered")
        answered = asyncio.create_task(newcomer.request("request/invitations/enroll", b"{}", PATIENCE))
        request = await following(messages)
        assert request.reply_to is not None
        await cloud.publish(request.reply_to, b"answer")
        assert (await answered).body == b"answer"
        assert await seen_until_marker(messages, cloud) == []
        async with connected(server, "coordinator", "mqtt") as door:
            await door.publish("status/jobs/two", b"honest")
            assert (await following(statuses)).topic == "status/jobs/two"
        await cloud.publish("reply/alice/2", b"honest")
        assert (await following(replies)).topic == "reply/alice/2"
        assert all(each.pending_msgs == 0 for each in heard)
    async with connect(with_user(server.url(scheme="mqtt"), NEWCOMER)) as at_door:
        with pytest.raises(HeliographError):
            await at_door.link.wait_up(1)


@pytest.mark.parametrize("signer", ["user", "account", "operator's own account"])
async def test_a_forged_login_is_refused(broker: Start, signer: str) -> None:
    server = await broker()
    key = KeyPair("user", World().new_secret())
    claims = UserClaims(subject=key.public, name="coordinator", allowed=WHOLE)
    if signer == "account":  # of another operator
        token = encode(claims, KeyPair("account", World().new_secret()), World().now())
    elif signer == "user":  # an edge signs for its own account with the key that it has
        honest = UserCredentials.read(server.login_file(f"agent-{EDGE}"))
        assert honest.key is not None
        as_account = KeyPair("account", b"\1" * 32)
        token = encode(replace(claims, account=honest.claims.issuer), as_account, World().now())
    else:  # of an account that the operator does not know
        unknown = KeyPair("account", World().new_secret())
        token = encode(replace(claims, account=key_of(server, "CORE").public), unknown, World().now())
    file = server.directory / "forged.creds"
    UserCredentials(token, claims, key).write(file)
    async with connect(with_credentials(server.url(), file)) as bus:
        await until_refused(bus)
        with pytest.raises(Forbidden):
            await bus.publish(REPORT.at(edge=EDGE), b"{}")


async def test_a_login_of_mqtt_is_none_of_nats(broker: Start) -> None:
    """In the account of MQTT clients a forged reply subject would reach another user."""
    server = await broker()
    for login in ("alice", "operator"):
        url = with_credentials(server.url(), server.login_file(login, "mqtt"))
        async with connect(url) as bus:
            with pytest.raises(HeliographError):
                await bus.link.wait_up(0.5)


async def test_an_expired_login_ends_and_a_renewed_one_is_used_without_a_restart(broker: Start) -> None:
    server = await broker()
    key = KeyPair("user", World().new_secret())
    claims = UserClaims(subject=key.public, name=f"agent-{EDGE}", expires=int(World().now()) + 2, allowed=WHOLE)
    file = signed_login(server, f"agent-{EDGE}", claims, key)
    async with coordinator(server), connect(with_credentials(server.url(), file), inbox=inbox_of(EDGE)) as edge:
        await edge.link.wait_up(PATIENCE)
        async with asyncio.timeout(PATIENCE):
            await edge.link.wait_down()
        await until_refused(edge)
        with pytest.raises(Forbidden):
            await edge.publish(REPORT.at(edge=EDGE), b"{}")
        renewed = signed_login(server, f"agent-{EDGE}", replace(claims, expires=0), key)
        renewed.replace(file)
        await edge.link.wait_up(PATIENCE)
        assert await edge.publish(REPORT.at(edge=EDGE), b"{}") == 1


async def test_a_revoked_login_ends_at_once(broker: Start) -> None:
    server = await broker()
    operator = KeyPair.from_seed(json.loads((server.directory / "identity" / FILE).read_text())["operator"])
    name = f"agent-{EDGE}"
    (file,) = (each for each in (server.directory / "identity" / "accounts").iterdir()
               if decode(each.read_text(), AccountClaims).name == name)  # fmt: skip
    account = decode(file.read_text(), AccountClaims)
    user = UserCredentials.read(server.login_file(name)).claims.subject
    async with coordinator(server), agent(server, EDGE) as edge, agent(server, OTHER) as other:
        async with connect(server.url(SYSTEM_USER)) as system:
            await system.link.wait_up(PATIENCE)
            assert isinstance(system, NatsBus)
            token = encode(replace(account, revoked={user: int(World().now()) + 1}), operator, World().now())
            answer = await system.connection.request("$SYS.REQ.CLAIMS.UPDATE", token.encode())
            assert json.loads(answer.data)["data"]["code"] == 200
        async with asyncio.timeout(PATIENCE):
            await edge.link.wait_down()
        await until_refused(edge)
        with pytest.raises(Forbidden):
            await edge.publish(REPORT.at(edge=EDGE), b"{}")
        assert await other.publish(REPORT.at(edge=OTHER), b"{}") == 1
