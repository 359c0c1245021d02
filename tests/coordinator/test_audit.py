"""Decisions are recorded before their answers leave, in one chain over all coordinators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.audit_chain import ChainCheck
from heliograph.bus.contract.payloads import AuditRecord
from heliograph.bus.contract.topics import AUDIT
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.coordinator.api.request import Request
from heliograph.coordinator.audit import Audit, AuditedRequests, Decision
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import LinkDown, Refused
from heliograph.core.failures import Failures
from heliograph.core.world import World
from heliograph.local.nats_server import Broker
from tests.patience import HANGS

SIGNER = Ed25519Signer(bytes(32))
ADDRESS = AUDIT.at()


class Cloud:
    """A stream, and the coordinators that write to it."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.warned: list[str] = []

    def audit(self, epoch: int = 1, bus: Bus | None = None) -> Audit:
        port = Port(bus or self.bus, World(), f"cloud/coordinator/{epoch}")
        return Audit(port, epoch, SIGNER, Failures(self.warned.append))

    async def records(self) -> list[AuditRecord]:
        """Return all records; fail if their chain does not hold."""
        check, found = ChainCheck((SIGNER.public,)), []
        async with self.bus.consume(ADDRESS) as messages:
            for _ in range(await self.bus.last_sequence("AUDIT")):
                message = await anext(messages)
                record = check.take(message.body, message.topic)
                assert record is not None
                found.append(record)
        assert check.problems == []
        return found


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    async with connect(f"memory://audit-{World().new_id()}") as bus:
        yield Cloud(bus)


@pytest.fixture(params=["memory", "nats"])
async def any_cloud(request: pytest.FixtureRequest, broker: Callable[..., Awaitable[Broker]]) -> AsyncIterator[Cloud]:
    url = f"memory://audit-{World().new_id()}"
    if request.param == "nats":
        url = (await broker()).url("coordinator")
    async with connect(url) as bus:
        await bus.link.wait_up(HANGS)
        await bus.prepare()
        yield Cloud(bus)


def asked(verb: str = "create", document: Any = None, caller: str = "alice") -> Request:
    given = {"metadata": {"name": "digits"}, "secret": "s3cret"} if document is None else document
    return Request("jobs", verb, given, f"request/jobs/{verb}", caller)


async def decided(cloud: Cloud, request: Request, error: Exception | None = None) -> list[tuple[str, ...]]:
    """Handle a request and return what stands in the audit when its answer leaves."""

    async def handle(request: Request) -> str:
        if isinstance(request.document, dict):
            request.document.clear()
        if error is not None:
            raise error
        return "done"

    requests = AuditedRequests(handle, cloud.audit())
    if error is None:
        assert await requests.handle(request) == "done"
    else:
        with pytest.raises(type(error)):
            await requests.handle(request)
    return [(each.who, each.what, each.name, each.decision, each.code) for each in await cloud.records()]


@pytest.mark.parametrize(
    ("resource", "verb", "recorded"),
    [("users", "enroll", True), ("edges", "revoke", True), ("invitations", "renew", False),
     ("edges", "get", False)],
)
async def test_who_gets_and_loses_a_login_is_recorded(cloud: Cloud, resource: str, verb: str, recorded: bool) -> None:
    request = Request(resource, verb, {"name": "edge-7"}, f"request/{resource}/{verb}", "alice")
    wanted = [("alice", f"{resource}/{verb}", "edge-7", "accepted", "")] if recorded else []
    assert await decided(cloud, request) == wanted


async def test_the_edge_that_enrols_by_a_groups_invitation_is_recorded(cloud: Cloud) -> None:
    document = {"name": "hall", "edge": "hall-7", "signature": "A" * 86}
    request = Request("invitations", "enroll", document, "request/invitations/enroll", "newcomer")
    assert await decided(cloud, request) == [("newcomer", "invitations/enroll", "hall-7", "accepted", "")]


async def test_a_change_is_recorded_without_its_document(cloud: Cloud) -> None:
    assert await decided(cloud, asked()) == [("alice", "jobs/create", "digits", "accepted", "")]
    message = await cloud.bus.last(ADDRESS)
    assert message is not None
    assert b"s3cret" not in message.body


@pytest.mark.parametrize("verb", ["create", "update", "delete", "stop", "start"])
async def test_every_verb_that_changes_something(cloud: Cloud, verb: str) -> None:
    (record,) = await decided(cloud, asked(verb, {"name": "digits"}, ""))
    assert record == ("unknown", f"jobs/{verb}", "digits", "accepted", "")


@pytest.mark.parametrize("verb", ["get", "list", "watch", "status", "models", "training"])
async def test_no_verb_that_changes_nothing(cloud: Cloud, verb: str) -> None:
    assert await decided(cloud, asked(verb, {"name": "digits"})) == []


async def test_a_refusal_is_recorded_with_its_code_and_a_trial_is_not(cloud: Cloud) -> None:
    (record,) = await decided(cloud, asked(), Refused("exists"))
    assert record == ("alice", "jobs/create", "digits", "refused", "exists")
    dry = {"metadata": {"name": "digits"}, "dry_run": True}
    assert len(await decided(cloud, asked(document=dry))) == 1


async def test_a_refusal_for_lack_of_rights_is_recorded_of_any_request(cloud: Cloud) -> None:
    assert await decided(cloud, asked("get", {"name": "digits"}), Refused("not-found")) == []
    (record,) = await decided(cloud, asked("get", {"name": "digits"}), Refused("forbidden"))
    assert record == ("alice", "jobs/get", "digits", "refused", "forbidden")


@pytest.mark.parametrize("document", [None, [], {"metadata": []}, {"metadata": {"name": 3}}, {"name": "a/b"},
                                      {"name": "x" * 1000}])  # fmt: skip
async def test_a_name_that_is_none_is_left_out(cloud: Cloud, document: Any) -> None:
    request = replace(asked(), document=document)
    assert [each[2] for each in await decided(cloud, request)] == [""]


async def test_many_at_once_make_one_chain_in_their_order(any_cloud: Cloud) -> None:
    audit = any_cloud.audit()
    names = [f"job-{n}" for n in range(600)]
    await asyncio.gather(*(audit.record(Decision("alice", "jobs/create", name)) for name in names))
    found = await any_cloud.records()
    assert [each.n for each in found] == list(range(1, 601))
    assert [each.name for each in found] == names


async def test_another_coordinator_goes_on_and_two_at_once_do_not_fork(any_cloud: Cloud) -> None:
    cloud = any_cloud
    first, second = cloud.audit(1), cloud.audit(2)
    await first.record(Decision("alice", "jobs/create", "one"))
    await second.record(Decision("cloud/coordinator/2", "lead"))
    await first.record(Decision("alice", "jobs/create", "two"))  # it does not know yet that it has lost the lease
    await asyncio.gather(*(each.record(Decision("bob", "jobs/delete", "one")) for each in (first, second) * 4))
    found = await cloud.records()
    assert [each.n for each in found] == list(range(1, 12))
    assert [each.epoch for each in found[:3]] == [1, 2, 1]
    assert cloud.warned == []


async def test_a_record_whose_acknowledgement_was_lost_is_stored_once(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, publish = cloud.audit(), cloud.bus.publish_all
    await audit.record(Decision("alice", "jobs/create", "one"))

    async def losing(*words: Any) -> None:
        monkeypatch.setattr(cloud.bus, "publish_all", publish)
        await publish(*words)
        raise LinkDown("the link went down")

    monkeypatch.setattr(cloud.bus, "publish_all", losing)
    await audit.record(Decision("alice", "jobs/create", "two"))
    await audit.record(Decision("alice", "jobs/create", "three"))
    assert [each.name for each in await cloud.records()] == ["one", "two", "three"]


async def test_what_cannot_be_recorded_is_told_and_the_answer_leaves(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: Any) -> None:
        raise LinkDown("the link went down")

    monkeypatch.setattr(cloud.bus, "publish_all", failing)
    assert await decided(cloud, asked()) == []
    assert "1 audit records, that of jobs/create digits by alice among them" in cloud.warned[0]
