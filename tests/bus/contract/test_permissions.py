"""Permissions derived from the registry; ``tests/bus/test_permissions.py`` tests them on a broker."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.permissions import (
    Permissions,
    Place,
    participant_login,
    participant_of,
    permissions,
)
from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.contract.topics import DEFAULT_ROOT, Role, Topic
from heliograph.core.errors import Refused
from heliograph.core.names import matches

ROLES: tuple[Role, ...] = (
    "anonymous", "newcomer", "user", "participant", "operator", "worker", "cloud-worker", "agent"
)  # fmt: skip
PLACES: tuple[Place, ...] = ("cloud", "node")


def covers(subjects: tuple[str, ...], topic: Topic[Any]) -> bool:
    """Return whether any of the subjects allows an address of the topic."""
    address = topic.at(*(["rest"] if topic.words[-1] == "#" else []), **dict.fromkeys(topic.params, "edge-1"))
    patterns = [subject.translate(str.maketrans(".*>", "/+#")) for subject in subjects]
    return any(matches(pattern, f"{DEFAULT_ROOT}/{address}") for pattern in patterns)


@pytest.mark.parametrize(
    ("role", "place"),
    [(role, place) for role in ROLES for place in PLACES if (role, place) != ("agent", "node")],  # it owns its broker
)
def test_a_topic_that_does_not_name_a_role_is_forbidden_to_it(role: Role, place: Place) -> None:
    allowed = permissions(role, place, edge="edge-1" if role in ("agent", "participant") else "", login="edge-1")
    for topic in BUILT_IN.topics:
        if role not in topic.publishers:
            assert not covers(allowed.publish, topic), topic.name
        if role not in topic.subscribers and role != "operator":  # operators watch everything
            assert not covers(allowed.subscribe, topic), topic.name
    assert ">" not in allowed.publish + allowed.subscribe
    assert set(allowed.deny) & {"$MQTT.>", ">"}


def test_an_anonymous_login_has_exactly_these_permissions() -> None:
    cloud, node = permissions("anonymous", "cloud"), permissions("anonymous", "node")
    assert (cloud.publish, cloud.deny) == ((), (">",))
    others = [subject for subject in cloud.subscribe if subject.split(".")[1] != "status"]
    assert others == ["heliograph.event.job-ended.*"]
    telemetry, asking = "heliograph.event.telemetry.*.*", "heliograph.inference.*.request"
    labelling = "heliograph.request.labels.*"
    assert set(node.publish) == {telemetry, asking, labelling, "heliograph.inference.*.offload.*.*"}
    assert {subject.split(".")[1] for subject in node.subscribe} == {"status", "reply", "ack", "inference"}
    assert "heliograph.inference.*.answer.*.*.*" in node.subscribe


def test_a_newcomer_asks_for_a_login_and_nothing_else() -> None:
    cloud, node = permissions("newcomer", "cloud"), permissions("newcomer", "node")
    asking = {f"heliograph.request.{kind}.{verb}" for kind in ("invitations", "users") for verb in ("enroll", "renew")}
    assert set(cloud.publish) == asking
    assert cloud.subscribe == ("_INBOX.newcomer.>",)
    assert (node.publish, node.subscribe) == ((), ())


def test_a_user_asks_and_reads_status_and_its_own_replies() -> None:
    cloud, node = permissions("user", "cloud", login="alice"), permissions("user", "node", login="alice")
    asking = "heliograph.inference.*.request"
    assert set(cloud.publish) == {"heliograph.request.*.*", asking}
    assert set(node.publish) == {asking, "heliograph.request.labels.*"}
    assert [each for each in cloud.subscribe if ".status" not in each] == [
        "heliograph.reply.alice.*", "heliograph.event.job-ended.*", "_INBOX.alice.>",
    ]  # fmt: skip


def test_a_participant_takes_part_under_its_own_name_and_no_more() -> None:
    cloud = permissions("participant", "cloud", edge="phone", login="participant-phone")
    verbs = {f"heliograph.request.jobs.{verb}" for verb in ("join", "weights", "upload")}
    assert set(cloud.publish) == {"heliograph.edge.phone.up.model-update.*", *verbs}
    assert [each for each in cloud.subscribe if ".status" not in each] == [
        "heliograph.reply.participant-phone.*", "heliograph.event.job-ended.*", "_INBOX.participant-phone.>",
    ]  # fmt: skip
    assert permissions("participant", "node", edge="phone", login="participant-phone") == Permissions((), (), (">",))
    for name in ("*", ">", "a.b", ""):
        with pytest.raises(Refused):
            permissions("participant", "cloud", edge=name, login="participant-phone")
        with pytest.raises(Refused):
            permissions("participant", "cloud", edge="phone", login=name)


@pytest.mark.parametrize(("login", "name"), [
    ("participant-phone", "phone"), ("participant-", ""), ("phone", ""), ("participant-A", ""), ("agent-phone", ""),
])  # fmt: skip
def test_a_participants_login_says_its_name(login: str, name: str) -> None:
    assert participant_of(login) == name
    assert not name or participant_login(name) == login


def test_an_operator_has_an_inbox_of_its_own() -> None:
    inboxes = [each for each in permissions("operator", "cloud", login="boss").subscribe if each.startswith("_INBOX")]
    assert inboxes == ["_INBOX.boss.>"]


@pytest.mark.parametrize("login", ["", "*", ">", "a.b", "a/b"])
def test_a_users_name_widens_nothing(login: str) -> None:
    with pytest.raises(Refused):
        permissions("user", "cloud", login=login)


@pytest.mark.parametrize("edge", ["*", ">", "a.b", "a.>", "A", "edge 1"])
def test_an_edges_name_widens_nothing(edge: str) -> None:
    with pytest.raises(Refused):
        permissions("agent", "cloud", edge=edge)
