"""Topics of devices become labels: readable, the same at each start, and never one for two names."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.core.names import is_label
from heliograph.edge_agent.devices.mapping import LONGEST, DeviceMapping, Placed, Rule
from heliograph.edge_agent.devices.presets import PRESETS, rules_of
from heliograph.edge_agent.devices.topic_filters import takes

OWN = "heliograph/event/telemetry/edge-1"
NAME = st.text(st.characters(exclude_characters="/+#\0", exclude_categories=["Cs"]), min_size=1, max_size=70)
PLAIN = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
LEVEL = st.one_of(NAME, PLAIN, st.sampled_from(["a-b", "a", "b", "-", "A"]))


def mapping(*rules: Rule) -> DeviceMapping:
    return DeviceMapping("heliograph", "edge-1", rules)


HEAD = st.sampled_from(["", "zigbee2mqtt/", "spBv1.0/", "tele/"])


@given(st.lists(LEVEL, min_size=1, max_size=4).map("/".join), HEAD)
def test_a_place_always_has_labels_and_comes_by_the_filters(topic: str, head: str) -> None:
    rules = mapping(*(rule for name in PRESETS for rule in rules_of(name)), Rule("{all...}", "{all}"))
    placed = rules.place(head + topic)
    if placed is not None:
        assert is_label(placed.device) and is_label(placed.event)
        assert any(takes(each, head + topic) for each in rules.filters)


@given(st.tuples(LEVEL, LEVEL, LEVEL), st.tuples(LEVEL, LEVEL, LEVEL))
def test_no_two_topics_of_one_rule_have_one_device_and_event(first: tuple[str, ...], other: tuple[str, ...]) -> None:
    assume(first != other)
    one, two = ("/".join(["x", *each]) for each in (first, other))
    for rule in (
        Rule("x/{a}/{b}/{c}", "{a}-{b}", "{c}"), Rule("x/{a}/{b}/{c}", "in-{a}-{b}-of-{c}"),
        Rule("x/{a...}", "{a}"), Rule("x/{a...}/{b}", "{a}", "event-{b}"),
    ):  # fmt: skip
        assert mapping(rule).place(one) != mapping(rule).place(two)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("thermo", "thermo"),
        ("0x00158d00022d2d2c", "0x00158d00022d2d2c"),
        ("Living Room", "living-room-e4a3c880ef74"),
        ("Living_Room", "living-room-"),
        ("living_room", "living-room-"),
        ("24:6F:28:AA:BB:CC", "24-6f-28-aa-bb-cc-"),
        ("kitchen.temp", "kitchen-temp-"),
        ("küche", "k-che-"),
        ("温度", "device-"),
        ("-sensor", "sensor-"),
        ("dev@home", "dev-home-"),
        ("a" * 63, "a" * 63),
        ("a" * 64, "a" * 50 + "-"),
    ],
)  # fmt: skip
def test_a_name_stays_readable(name: str, device: str) -> None:
    placed = mapping().place(f"{OWN}/{name}")
    assert placed is not None and placed.device.startswith(device) and placed.event == "telemetry"
    assert (placed.device == name) == is_label(name)


def test_names_that_read_alike_are_devices_apart() -> None:
    names = ("Living Room", "Living_Room", "living_room", "living room", "LIVING ROOM", "living-room")
    placed = {mapping().place(f"{OWN}/{name}") for name in names}
    assert len(placed) == len(names)


def test_another_process_gives_the_same_names() -> None:
    script = (
        "from heliograph.edge_agent.devices.mapping import DeviceMapping\n"
        f"print(DeviceMapping('heliograph', 'edge-1').place({OWN + '/Living Room'!r}).device)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "living-room-e4a3c880ef74"


def test_the_first_rule_about_a_topic_decides() -> None:
    rules = mapping(Rule("a/+/debug"), Rule("a/{device}/{event}", "{device}", "{event}"), Rule("a/#", "rest"))
    assert rules.place("a/x/debug") is None and rules.passes_over("a/x/debug")
    assert rules.place("a/x/temp") == Placed("x", "temp")
    assert rules.place("a/x/y/z") == Placed("rest", "telemetry")
    assert rules.place("b/x") is None and not rules.passes_over("b/x")


def test_heliographs_own_topics_are_no_devices_whatever_a_rule_says() -> None:
    rules = mapping(Rule("{all...}", "{all}"))
    for rest in ("ack/thermo", "event/telemetry/edge-2/thermo", "status/edges/edge-1"):
        topic = f"heliograph/{rest}"
        assert rules.place(topic) is None and rules.passes_over(topic)
    assert rules.place(f"{OWN}/thermo") is not None
    assert rules.place("$SYS/broker/uptime") is None
    with pytest.raises(Refused, match=f"outside heliograph/, or below {OWN}/, got heliograph/ack"):
        mapping(Rule("heliograph/ack/{device}", "{device}"))


def test_below_its_own_address_a_node_hears_all_and_takes_one_level() -> None:
    assert mapping().filters == (f"{OWN}/#",)
    for rest in ("", "thermo/", "thermo/temperature", "a//b"):
        assert mapping().place(f"{OWN}/{rest}") is None and not mapping().passes_over(f"{OWN}/{rest}")
    deeper = mapping(Rule(f"{OWN}/{{device}}/{{event...}}", "{device}", "{event}"))
    assert deeper.place(f"{OWN}/thermo/temperature") == Placed("thermo", "temperature")


def test_a_topic_that_is_too_long_for_a_subject_has_no_place() -> None:
    rules = mapping(Rule("a/{device}", "{device}"))
    assert rules.place("a/" + "x" * (LONGEST - 2)) is not None
    assert rules.place("a/" + "x" * (LONGEST - 1)) is None


def test_what_was_looked_up_is_bounded() -> None:
    rules = mapping()
    for number in range(3000):
        rules.place(f"{OWN}/{number}")
    assert len(rules._placed) <= 1024


@pytest.mark.parametrize(
    ("topic", "device", "event", "told"),
    [
        ("", "a", "b", "field topic"),
        ("a/b+", "a", "b", "got b\\+"),
        ("a/#/b", "a", "b", "got #"),
        ("a/{X}", "a", "b", "got {X}"),
        ("a/{x}/{x}", "a", "b", "each name once"),
        ("{a...}/{b...}", "a", "b", "each name once"),
        ("{a...}/#", "a", "b", "each name once"),
        ("$share/group/a", "a", "b", "field topic"),
        ("/".join("a" * 65), "a", "b", "field topic"),
        ("a/{x}", "{y}", "b", r"field device.*\({x}\), got {y}"),
        ("a/{x}", "A", "b", "field device"),
        ("a/{x}", "-a", "b", "field device: expected a DNS label"),
        ("a/{x}/{y}", "{x}{y}", "b", "'-' between two names"),
        ("a/{x}/{y}", "{x}z{y}", "b", "'-' between two names"),
        ("a/{x}", "{x}", "", "field event"),
        ("a/{x}", "{x}", "{x...}", "field event"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_is_refused_by_its_field(topic: str, device: str, event: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        Rule(topic, device, event)


def test_all_presets_together_fit_into_what_the_embedded_broker_gives_a_client() -> None:
    filters = mapping(*(rule for name in PRESETS for rule in rules_of(name))).filters
    assert sum(4096 * (1 + each.endswith("#")) for each in filters) < 65_536
