"""Quarantine: a stored document that the coordinator cannot read, for a person to look at and delete."""

from typing import ClassVar, Literal

from pydantic import Field

from heliograph.bus.contract.resources.base import Document, Resource, ShortText


class QuarantineSpec(Document):
    """Where the document is stored, and why it cannot be read.

    Attributes:
        bucket: the bucket of the document.
        key: its key in the bucket, ``<plural>.<name>`` for a resource.
        reason: names the wrong field, what was expected there, and what was found.
        size: bytes of the document.
        excerpt: its first characters, with escapes for other bytes than text.
    """

    bucket: ShortText
    key: ShortText
    reason: ShortText
    size: int = 0
    excerpt: ShortText = ""


class QuarantineStatus(Document):
    """When the coordinator that leads found the document."""

    since: ShortText = ""


class Quarantine(Resource):
    """``kind: Quarantine``. The coordinator makes one for each unreadable document, which stays where it is until
    somebody deletes the quarantine, and the document with it."""

    plural: ClassVar[str] = "quarantines"

    kind: Literal["Quarantine"] = "Quarantine"
    spec: QuarantineSpec
    status: QuarantineStatus = Field(default_factory=QuarantineStatus)
