"""A feature outside Heliograph: a beacon counts the flashes sent to it, and ends at the declared number."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from heliograph.bus.contract.features import CATALOG, FeatureDeclaration
from heliograph.bus.contract.payloads import Payload
from heliograph.bus.contract.resources.base import Document, Resource
from heliograph.bus.contract.topics import Stream, Topic


class Flash(Payload):
    """A flash of light."""

    seconds: float


class BeaconSpec(Document):
    flashes: int = Field(ge=1)


class BeaconStatus(Document):
    phase: Literal["Pending", "Running", "Succeeded", "Stopped"] = "Pending"
    seen: int = 0


class Beacon(Resource):
    """``kind: Beacon``."""

    plural: ClassVar[str] = "beacons"
    kind: Literal["Beacon"] = "Beacon"
    spec: BeaconSpec
    status: BeaconStatus = Field(default_factory=BeaconStatus)


FLASH = Topic("event/flash/{beacon}", Flash, "event", ("operator",), ("coordinator",), "A flash that a beacon counts.",
              stream=Stream("FLASHES"))  # fmt: skip
DECLARATION = FeatureDeclaration(
    "beacons", Beacon, (*CATALOG, "status", "stop"), (FLASH,), coordinator="beacons.controller:Beacons",
    command_line="beacons.table:BEACONS", ended=("Succeeded", "Stopped"),
)  # fmt: skip
