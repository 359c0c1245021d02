"""Bodies of the requests by which an edge, or a participant that trains by itself, takes part in a job."""

from typing import Annotated

from pydantic import Field, StringConstraints

from heliograph.bus.contract.payloads.participation import PartText
from heliograph.bus.contract.request_bodies import Change, Named
from heliograph.core.names import Digest, Label

Size = Annotated[int, Field(ge=0, le=1 << 40)]


class Join(Change):
    """Takes part in a job. The same request again answers what there is to do now.

    Attributes:
        edge: the edge that joins; its agent runs the job's script. A participant that trains by itself leaves it out.
        dataset: the data set that the edge trains on; without it the one that the job's workers name.
        num_samples: for a participant that trains by itself, the largest number of samples that its updates will claim;
            its first request needs it.
    """

    edge: Label | None = None
    dataset: Label | None = None
    num_samples: Annotated[int, Field(ge=1, le=100_000_000)] | None = None


class GetWeights(Named):
    """Asks for a part of the weights that a job trains from now, or has ended with.

    Attributes:
        digest: digest of the weights, as the answer to ``join`` or the job's status names them.
        offset: the part's first byte.
    """

    digest: Digest
    offset: Size = 0


class UploadWeights(Named):
    """Sends a part of a participant's weights that are too large to travel inside an update.

    Attributes:
        digest: SHA-256 of the whole safetensors file.
        size: bytes of the whole file.
        offset: the part's first byte; the answer's ``received`` says where the next part begins.
        data: the part's bytes, base64; at most 512 KiB before it.
    """

    digest: Digest
    size: Size
    offset: Size
    data: Annotated[PartText, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
