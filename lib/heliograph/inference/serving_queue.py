"""What waits in the queue between a worker and the script that serves a model: requests, versions and settings."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from heliograph.bus.contract.payloads import InferenceSpec
from heliograph.bus.contract.resources.model import share_of
from heliograph.inference.versions import Weights


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """One request. ``at`` is when it came and ``until`` its deadline, in monotonic seconds."""

    tree: dict[str, Any]
    topic: str
    reply_to: str
    correlation: bytes | None
    is_json: bool
    at: float
    until: float
    body: bytes = b""

    def place(self, salt: str) -> float:
        """Return a number from 0 to 1 that depends on the request and the salt alone: the same request has the same
        place as long as a candidate is tried. A checksum that starts from the salt would not do: it is linear, so
        that of requests of one length another salt would choose the same ones, or all others."""
        return share_of(f"{zlib.crc32(self.body):08x}", salt)


@dataclass(frozen=True, slots=True)
class NewModel:
    """New weights for the script's model; ``classes`` are their names by index, where the version has some."""

    digest: str
    arrays: Weights
    classes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class NewCandidate:
    """A version that answers a share of the requests beside the one that serves, or the end of one (no arrays);
    ``rejected`` says why a version must answer none."""

    digest: str = ""
    arrays: Weights = field(default_factory=dict)
    share: float = 0.0
    salt: str = ""
    classes: Sequence[str] = ()
    rejected: str = ""


Change = NewModel | NewCandidate | InferenceSpec
