"""Payloads of blobs between an edge and the cloud: asks for chunks, and what becomes of an edge's uploads."""

from typing import Annotated

from pydantic import Field, StringConstraints

from heliograph.bus.contract.payloads.base import Count, Payload, Text
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.names import Digest, Label

CHUNKS = 16
"""Chunks that one ask may name, at most."""
MAX_SETTLED = 256
"""Digests of one ``UploadSettled``, at most."""


class BlobAsk(Payload):
    """An ask for consecutive chunks of a blob. They come on the topic of the asking edge, or of the asked one, that
    ends in ``id``; nothing in an ask names another place.

    Attributes:
        id: the transfer, drawn anew by who asks.
        bucket: bucket of the blob; empty where it lies on an edge's disk.
        place: number of the first chunk, from 0.
        sequence: in a bucket the sequence of the last chunk that has come; 0 at the beginning.
        count: number of chunks.
        offset: byte of the first chunk from which on it is asked for, on an edge's disk.
        parts: whether chunks may come in parts. Agents of earlier versions send whole ones, and know no offset.
    """

    id: Label
    digest: Digest
    bucket: Annotated[str, StringConstraints(max_length=64)] = ""
    place: Count = 0
    sequence: Count = 0
    count: Annotated[int, Field(ge=1, le=CHUNKS)] = 1
    offset: Count = 0
    parts: bool = False


class UploadOffer(Payload):
    """Weights that lie on an edge's disk, and that the cloud shall take now."""

    digest: Digest
    size: Count


class UploadSettled(Payload):
    """Weights that an edge need not keep any longer.

    Attributes:
        reason: why the cloud will never take them; empty where it has them, or has counted or refused them.
    """

    digests: Annotated[list[Digest], Field(max_length=MAX_SETTLED)]
    reason: Text = ""


class ModelReady(Payload):
    """The model with which a round has closed.

    Attributes:
        settled: uploads of the edge that the round has settled, as in ``UploadSettled``.
    """

    job: Label
    job_uid: Text
    round: int
    model: WeightsRef
    settled: Annotated[list[Digest], Field(default_factory=list, max_length=MAX_SETTLED)]
