"""Rules for what is widely in use, by name; a rule of ours follows the topics that each project documents.

zigbee2mqtt    https://www.zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages.html
tasmota        https://tasmota.github.io/docs/MQTT/
shelly         https://shelly-api-docs.shelly.cloud/gen1/#mqtt-support
homeassistant  https://www.home-assistant.io/integrations/mqtt_statestream/
sparkplug      https://sparkplug.eclipse.org/specification/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from heliograph.core.errors import Refused
from heliograph.edge_agent.devices.mapping import Rule

PROTOBUF = "application/x-protobuf"
"""Content type of Sparkplug B's payloads."""
_OF_NODE = ("NBIRTH", "NDEATH", "NDATA")
_OF_DEVICE = ("DBIRTH", "DDEATH", "DDATA")


def rules_of(preset: str, base: str = "") -> tuple[Rule, ...]:
    """Return the rules of a preset. Raise Refused if there is none of that name, or it has no base.

    Args:
        base: the first levels of its topics, where they are not the usual ones.
    """
    if preset not in PRESETS:
        raise Refused("invalid", field="preset", expected=f"one of {', '.join(PRESETS)}", got=preset)
    usual, make = PRESETS[preset]
    return make(base or usual)


def preset_of(topic: str) -> str:
    """Return the name of the preset that a topic probably belongs to; empty where none does."""
    return next((name for name, (base, _) in PRESETS.items() if base and topic.startswith(f"{base}/")), "")


def _zigbee2mqtt(base: str) -> tuple[Rule, ...]:
    """A friendly name may have several levels, and spaces. What is set or got is for devices, not of them."""
    return (
        Rule(f"{base}/bridge/#"),
        Rule(f"{base}/+/set/#"),
        Rule(f"{base}/+/get/#"),
        Rule(f"{base}/{{device...}}/set"),
        Rule(f"{base}/{{device...}}/get"),
        Rule(f"{base}/{{device...}}/availability", "{device}", "availability"),
        Rule(f"{base}/{{device...}}", "{device}"),
    )


def _tasmota(base: str) -> tuple[Rule, ...]:
    """What a device tells by itself; answers to commands (``stat``) need a second entry with that base."""
    return (
        *(Rule(f"{base}/{{device}}/{word}", "{device}", word.lower()) for word in ("SENSOR", "STATE", "LWT")),
        Rule(f"{base}/{{device}}/{{event...}}", "{device}", "{event}"),
    )


def _shelly(base: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{base}/command"),
        Rule(f"{base}/{{device...}}/command"),
        Rule(f"{base}/announce", "announce"),
        Rule(f"{base}/{{device}}/{{event...}}", "{device}", "{event}"),
    )


def _homeassistant(base: str) -> tuple[Rule, ...]:
    """Its discovery configures entities, below the same base."""
    return (
        Rule(f"{base}/status"),
        Rule(f"{base}/+/+/config"),
        Rule(f"{base}/+/+/+/config"),
        Rule(f"{base}/{{domain}}/{{object}}/{{event}}", "{domain}-{object}", "{event}"),
    )


def _sparkplug(base: str) -> tuple[Rule, ...]:
    """Commands are for the devices; births, data and deaths are theirs."""
    group = f"{base}/{{group}}"
    return (
        *(Rule(f"{group}/{kind}/#") for kind in ("NCMD", "DCMD")),
        *(Rule(f"{group}/{kind}/{{node}}", "{group}-{node}", kind.lower(), PROTOBUF) for kind in _OF_NODE),
        *(Rule(f"{group}/{kind}/{{node}}/{{device}}", "{group}-{node}-{device}", kind.lower(), PROTOBUF)
          for kind in _OF_DEVICE),
        Rule(f"{base}/STATE/{{host}}", "{host}", "state"),
    )  # fmt: skip


PRESETS: Mapping[str, tuple[str, Callable[[str], tuple[Rule, ...]]]] = {
    "zigbee2mqtt": ("zigbee2mqtt", _zigbee2mqtt),
    "tasmota": ("tele", _tasmota),
    "shelly": ("shellies", _shelly),
    "homeassistant": ("homeassistant", _homeassistant),
    "sparkplug": ("spBv1.0", _sparkplug),
}
"""By name: the first levels of its topics, and its rules."""
