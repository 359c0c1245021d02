"""The request to collect garbage, and what was collected."""

from typing import Literal

from pydantic import Field

from heliograph.bus.contract.payloads.base import Count, Payload, Text
from heliograph.bus.contract.request_bodies import RequestBody

Kind = Literal["version", "blob", "upload", "round"]
LISTED = 250
"""Things that one collection deletes and names, at most: its answer comes within seconds."""


class Collect(RequestBody):
    """A request to delete what has come to the end of its life.

    Attributes:
        dry_run: whether only to say what would be deleted.
    """

    dry_run: bool = False


class GarbageItem(Payload):
    """One thing.

    Attributes:
        kind: a model's version, weights that nothing names, the beginning of weights whose upload was cut, or the
            close record of a round.
        name: the version as ``MODEL/NUMBER``, the digest, or the record's key.
        size: bytes that are free without it.
        reason: why nobody needs it.
    """

    kind: Kind
    name: Text
    size: Count = 0
    reason: Text = ""


class Garbage(Payload):
    """What a collection has deleted, or would delete.

    Attributes:
        size: bytes of all items.
        more: True where there is more than one collection deletes; the next one goes on.
        notes: why something was left that might be garbage.
    """

    dry_run: bool = False
    items: list[GarbageItem] = Field(default_factory=list)
    size: Count = 0
    more: bool = False
    notes: list[Text] = Field(default_factory=list)
