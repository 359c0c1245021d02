"""The bounds of a version that answers a share of the requests before it answers all."""

from typing import Annotated, Literal

from pydantic import Field

from heliograph.bus.contract.resources.base import Document


class Canary(Document):
    """A candidate answers a share of the requests, or all requests of a share of the edges, before it answers all.

    Attributes:
        by: ``requests``: sticky by the hash of the request; ``edges``: by the hash of the edge's name.
        share: of the requests or of the edges.
        least_requests: answers of the candidate that a decision needs.
        deadline_seconds: seconds after which a candidate with too few answers is taken back.
        most_errors: share of errors that the candidate may have beyond the champion's.
        most_latency: how many times the champion's 99th percentile the candidate's may be.
        least_agreement: share of requests on which candidate and champion have to agree.
        watch_seconds: seconds after the deployment in which the same bounds roll it back.
    """

    by: Literal["requests", "edges"] = "requests"
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    least_requests: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] = 100
    deadline_seconds: Annotated[float, Field(gt=0, le=31 * 86400)] = 86400.0
    most_errors: Annotated[float, Field(ge=0, le=1)] = 0.01
    most_latency: Annotated[float, Field(gt=0, le=1000)] = 2.0
    least_agreement: Annotated[float, Field(ge=0, le=1)] = 0.0
    watch_seconds: Annotated[float, Field(ge=0, le=31 * 86400)] = 60.0
