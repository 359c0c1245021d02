"""What the coordinator has decided, for the audit."""

from typing import Annotated, Literal

from pydantic import Field

from heliograph.bus.contract.payloads.base import Count, Payload, Text
from heliograph.core.names import Digest


class AuditRecord(Payload):
    """One decision of a coordinator. Neither documents nor secrets stand in it.

    Attributes:
        n: number of the record, from 1 without a gap, over all coordinators.
        previous: SHA-256 of the stored bytes of the record before; zeros for the first.
        epoch: the term of the coordinator that decided.
        who: whoever asked, as the request's reply address names them; ``unknown`` without one.
        what: what was asked, such as ``jobs/create``; ``lead`` for the beginning of a term.
        name: name of the resource; empty where the request is about none.
        decision: whether it was done.
        code: code of the refusal.
    """

    n: Annotated[int, Field(ge=1)]
    previous: Digest
    epoch: Count
    who: Text
    what: Text
    name: Text = ""
    decision: Literal["accepted", "refused"]
    code: Text = ""
