"""The file of a mapping: presets, rules of one's own, and what is refused, by its field."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliograph.core.errors import Refused
from heliograph.core.toml_file import MAX_SIZE
from heliograph.edge_agent.devices.mapping import DeviceMapping, Placed, Rule
from heliograph.edge_agent.devices.mapping_file import read_rules
from heliograph.edge_agent.devices.presets import PRESETS, preset_of


def mapping_of(directory: Path, text: str) -> DeviceMapping:
    file = directory / "devices.toml"
    file.write_text(text)
    return DeviceMapping("heliograph", "edge-1", read_rules(file))


def test_a_file_says_what_is_taken_and_as_what(tmp_path: Path) -> None:
    mapping = mapping_of(tmp_path, """
        [[devices]]
        preset = "zigbee2mqtt"
        base = "house/zigbee"
        [[devices]]
        topic = "hall/+/{machine}/debug"
        skip = true
        [[devices]]
        topic = "hall/{line}/{machine}/{event...}"
        device = "{line}-{machine}"
        event = "{event}"
        content-type = "text/csv"
    """)  # fmt: skip
    assert mapping.filters == ("house/zigbee/#", "hall/+/+/#", "heliograph/event/telemetry/edge-1/#")
    assert mapping.place("house/zigbee/lamp") == Placed("lamp", "telemetry")
    assert mapping.place("hall/3/press/debug") is None and mapping.passes_over("hall/3/press/debug")
    assert mapping.place("hall/3/press/vibration") == Placed("3-press", "vibration", "text/csv")


def test_an_empty_file_is_the_mapping_without_one(tmp_path: Path) -> None:
    assert mapping_of(tmp_path, "").filters == DeviceMapping("heliograph", "edge-1").filters


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("devices = 1", "field devices: expected entries"),
        ("[devices]", "field devices: expected entries"),
        ("[[device]]", "field device: expected \\[\\[devices\\]\\] alone"),
        ("[[devices]]\n", "devices 1, topic: expected preset, or topic and device"),
        ("[[devices]]\nname = 'x'", "devices 1, name: expected one of preset, base"),
        ("[[devices]]\npreset = 'zigbee'", "devices 1, preset: expected one of zigbee2mqtt, tasmota, .*, got zigbee"),
        ("[[devices]]\npreset = 'tasmota'\ntopic = 'x'", "devices 1, topic: expected beside preset only base"),
        ("[[devices]]\npreset = 'tasmota'\nbase = '+'", "devices 1, base"),
        ("[[devices]]\npreset = 'tasmota'\nbase = 'tele/'", "devices 1, base"),
        ("[[devices]]\ntopic = 'x'", "devices 1, device: expected the device, or skip = true"),
        ("[[devices]]\ntopic = 3", "devices 1, topic: expected a text, got 3"),
        ("[[devices]]\ntopic = 'x'\nskip = 'yes'", "devices 1, skip: expected true or false"),
        ("[[devices]]\ntopic = 'x'\nskip = true\nevent = 'y'", "devices 1, event: expected beside topic only skip"),
        ("[[devices]]\ntopic = 'x'\ndevice = 'd'\nbase = 'y'", "devices 1, base"),
        ("[[devices]]\ntopic = 'x'\ndevice = 'd'\n[[devices]]\ntopic = 'x/#/y'\ndevice = 'd'", "devices 2, topic"),
        ("[[devices]]\ntopic = 'x'\ndevice = 'd'\ncontent-type = 'csv'", "devices 1, content-type"),
        ("[[devices]]\ntopic = 'x'\ndevice = 'd'\ncontent-type = 'text/csv\\r\\nx'", "devices 1, content-type"),
        ("[[devices]]\ntopic = ", "expected TOML"),
        ("\n".join("[[devices]]\npreset = 'sparkplug'" for _ in range(40)), "at most 256 rules"),
        ("#" * (MAX_SIZE + 1), f"at most {MAX_SIZE} bytes"),
    ],
)  # fmt: skip
def test_what_is_no_mapping_is_refused_by_its_field(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        mapping_of(tmp_path, text.replace("'", '"'))


def test_no_file_and_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="a file with the mapping of devices, got No such file"):
        read_rules(tmp_path / "none.toml")
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(Refused, match="expected TOML"):
        read_rules(tmp_path / "latin")


PLACES = {
    "zigbee2mqtt": {
        "zigbee2mqtt/lamp": ("lamp", "telemetry"),
        "zigbee2mqtt/kitchen/lamp/availability": ("kitchen-lamp-", "availability"),
        "zigbee2mqtt/lamp/set": None,
        "zigbee2mqtt/lamp/set/state": None,
        "zigbee2mqtt/bridge/logging": None,
    },
    "tasmota": {
        "tele/plug/SENSOR": ("plug", "sensor"),
        "tele/plug/LWT": ("plug", "lwt"),
        "tele/plug/INFO1": ("plug", "info1-"),
    },
    "shelly": {
        "shellies/shellyplug-s-1/relay/0/power": ("shellyplug-s-1", "relay-0-power-"),
        "shellies/shellyplug-s-1/online": ("shellyplug-s-1", "online"),
        "shellies/shellyplug-s-1/relay/0/command": None,
        "shellies/announce": ("announce", "telemetry"),
        "shellies/command": None,
    },
    "homeassistant": {
        "homeassistant/sensor/outside/state": ("sensor-outside", "state"),
        "homeassistant/sensor/x/config": None,
        "homeassistant/sensor/node/x/config": None,
        "homeassistant/status": None,
    },
    "sparkplug": {
        "spBv1.0/plant/DDATA/gw/dev": ("plant-gw-dev", "ddata"),
        "spBv1.0/plant/NBIRTH/gw": ("plant-gw", "nbirth"),
        "spBv1.0/plant/NDEATH/gw": ("plant-gw", "ndeath"),
        "spBv1.0/plant/DCMD/gw/dev": None,
        "spBv1.0/STATE/scada": ("scada", "state"),
    },
}  # fmt: skip


def test_every_preset_has_its_places_here() -> None:
    assert PLACES.keys() == PRESETS.keys()


@pytest.mark.parametrize(("preset", "topic"), [(name, topic) for name, topics in PLACES.items() for topic in topics])
def test_a_preset_places_what_its_project_publishes(tmp_path: Path, preset: str, topic: str) -> None:
    mapping = mapping_of(tmp_path, f'[[devices]]\npreset = "{preset}"')
    placed, expected = mapping.place(topic), PLACES[preset][topic]
    assert preset_of(topic) == preset
    if expected is None:
        assert placed is None and mapping.passes_over(topic)
    else:
        assert placed is not None
        assert placed.device.startswith(expected[0]) and placed.event.startswith(expected[1])
        sparkplug = preset == "sparkplug" and "STATE" not in topic
        assert placed.content_type == ("application/x-protobuf" if sparkplug else None)


def test_a_content_type_may_have_a_parameter(tmp_path: Path) -> None:
    mapping_of(tmp_path, '[[devices]]\ntopic = "x"\ndevice = "d"\ncontent-type = "text/plain; charset=utf-8"')


def test_a_rule_of_ones_own_stands_above_a_preset(tmp_path: Path) -> None:
    mapping = mapping_of(tmp_path, """
        [[devices]]
        topic = "zigbee2mqtt/Living Room"
        device = "salon"
        [[devices]]
        preset = "zigbee2mqtt"
    """)  # fmt: skip
    assert mapping.place("zigbee2mqtt/Living Room") == Placed("salon", "telemetry")
    assert Rule("a/+").skips
