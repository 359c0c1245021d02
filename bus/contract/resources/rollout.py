"""A version of a model that is tried: the share of the requests that it answers, and what it is decided by."""

from typing import Literal

from pydantic import Field

from heliograph.bus.contract.resources.base import Document
from heliograph.bus.contract.resources.canary import Canary


class CountsBefore(Document):
    """What inference workers had counted of a version before its rollout began; see ``VersionStats``."""

    requests: int = 0
    errors: int = 0
    compared: int = 0
    agreed: int = 0
    rejected: int = 0
    latencies: dict[str, int] = Field(default_factory=dict)


class Rollout(Document):
    """A version that answers a share of the requests, before it becomes the champion or is taken back.

    Attributes:
        share: of the requests, or with ``by: edges`` of the edges.
        salt: what the choice of requests and edges is made with.
        requested_by: the caller that asked for it.
        bounds: by which the registry decides; absent where a job decides.
        step: ``canary``: it answers a share; ``watching``: it is the champion, and may still be rolled back.
        since: time at which the step began.
        base: digest of the champion that it is compared with.
        before: what had been counted of it earlier, which does not count now.
    """

    version: int
    by: Literal["requests", "edges"] = "requests"
    share: float = 0.1
    salt: str = ""
    requested_by: str = ""
    time: str = ""
    bounds: Canary | None = None
    step: Literal["canary", "watching"] = "canary"
    since: str = ""
    base: str = ""
    before: CountsBefore = Field(default_factory=CountsBefore)
