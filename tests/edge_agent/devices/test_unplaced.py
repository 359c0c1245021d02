"""What no rule takes is counted, and said once for the first levels of its topic."""

from __future__ import annotations

from heliograph.edge_agent.devices.mapping import DeviceMapping, Rule
from heliograph.edge_agent.devices.unplaced import SAID, UnplacedTopics

OWN = "heliograph/event/telemetry/edge-1/"


def unplaced(said: list[str], *rules: Rule) -> UnplacedTopics:
    return UnplacedTopics(DeviceMapping("heliograph", "edge-1", rules), said.append)


def test_each_beginning_is_said_once_with_what_to_write() -> None:
    said: list[str] = []
    topics = unplaced(said)
    for topic in ("zigbee2mqtt/Living Room", "zigbee2mqtt/Living Room/x", "tele/plug/SENSOR", "odd/one/x", "odd/one/y"):
        for _ in range(3):
            topics.add(topic)
    assert topics.count == 15
    assert said.pop(2) == "10 messages of devices came on topics that no rule takes"
    assert [line.split(": ")[0] for line in said] == [
        "no rule takes what devices publish on zigbee2mqtt/Living Room",
        "no rule takes what devices publish on tele/plug/SENSOR",
        "no rule takes what devices publish on odd/one/x",
    ]
    assert 'Write preset = "zigbee2mqtt" into' in said[0]
    assert 'Write preset = "tasmota" into' in said[1]
    assert "Write a rule for it into" in said[2]


def test_below_the_nodes_own_address_the_levels_that_follow_count() -> None:
    said: list[str] = []
    topics = unplaced(said)
    for rest in ("a/b/c", "a/b/d", "a/c", ""):
        topics.add(OWN + rest)
    assert len(said) == 3


def test_what_a_rule_passes_over_is_not_counted() -> None:
    said: list[str] = []
    topics = unplaced(said, Rule("quiet/#"))
    for topic in ("quiet/x", "heliograph/ack/thermo", "heliograph/status/edges/edge-1"):
        topics.add(topic)
    assert (topics.count, said) == (0, [])


def test_a_flood_of_topics_makes_few_lines() -> None:
    said: list[str] = []
    topics = unplaced(said)
    for number in range(10_000):
        topics.add(f"x{number}/" + "y" * 300)
    assert topics.count == 10_000
    assert len(said) == SAID + 1 + 4 and max(map(len, said)) < 500  # and the 10th, 100th, 1,000th and 10,000th
    assert "further topics of devices that no rule takes are only counted" in said
