"""Permissions derived from the registry; ``tests/bus/test_permissions.py`` tests them on a broker."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.permissions import Place, permissions
from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.contract.topics import DEFAULT_ROOT, Role, Topic
from heliograph.core.errors import Refused
from heliograph.core.names import matches

ROLES: tuple[Role, ...] = ("anonymous", "operator", "worker", "cloud-worker", "agent")
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
    allowed = permissions(role, place, edge="edge-1" if role == "agent" else "")
    for topic in BUILT_IN.topics:
        if role not in topic.publishers:
            assert not covers(allowed.publish, topic), topic.name
        if role not in topic.subscribers and role != "operator":  # operators watch everything
            assert not covers(allowed.subscribe, topic), topic.name
    assert ">" not in allowed.publish + allowed.subscribe
    assert "$MQTT.>" in allowed.deny


def test_an_anonymous_login_has_exactly_these_permissions() -> None:
    cloud, node = permissions("anonymous", "cloud"), permissions("anonymous", "node")
    asking = "heliograph.inference.*.request"
    assert set(cloud.publish) == {"heliograph.request.*.*", asking}
    assert set(node.publish) == {"heliograph.event.telemetry.*.*", asking, "heliograph.inference.*.offload.*.*"}
    for allowed in (cloud, node):
        words = {subject.split(".")[1] for subject in allowed.subscribe}
        assert words <= {"status", "reply", "ack"} | ({"inference"} if allowed is node else set())
    assert "heliograph.inference.*.answer.*.*.*" in node.subscribe


@pytest.mark.parametrize("edge", ["*", ">", "a.b", "a.>", "A", "edge 1"])
def test_an_edges_name_widens_nothing(edge: str) -> None:
    with pytest.raises(Refused):
        permissions("agent", "cloud", edge=edge)
