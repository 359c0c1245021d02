"""The record of a closed round: the aggregation worker's decision, in the key-value bucket ``buckets.ROUNDS``.

The worker writes it once, by compare-and-set, before it publishes the event. Its key is ``<job uid>.<round>``. Beside
the records lies, at ``<job uid>.end``, which of the rounds is the last one of an ended job, and at ``<job
uid>.participation`` what the rounds have told of each edge.
"""

from __future__ import annotations

import base64
import re

from pydantic import ValidationError

from heliograph.bus.contract.buckets import ROUNDS
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.resources import refusal_of
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core import ed25519
from heliograph.core.ed25519_signer import Ed25519Signer

KEPT_ROUNDS = 2
"""Counted rounds that keep their models: the newest, and the previous one, which participants may still be fetching."""
LOOK_BACK = KEPT_ROUNDS + 1
"""Rounds before a job's current one that may still have models to delete."""


_SIGNED = re.compile(rb"\n([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{86})\Z")


def key_of(job_uid: str, round: int) -> str:
    return f"{job_uid}.{round}"


def prefix_of(job_uid: str) -> str:
    """Return the common prefix of the keys of one job's records."""
    return f"{job_uid}."


def job_of(key: str) -> str:
    """Return the uid of the job that a key of the bucket belongs to."""
    return key.rpartition(".")[0]


def is_record(key: str) -> bool:
    """Return whether a record lies at a key of the bucket."""
    return key.rpartition(".")[2].isdecimal()


def end_key(job_uid: str) -> str:
    """Return the key of the round whose model is the job's result. The coordinator writes it before it ends the job:
    the aggregation worker may have closed another round since."""
    return f"{job_uid}.end"


def participation_key(job_uid: str) -> str:
    """Return the key of what closed rounds have told of each edge, for a job whose strategy compares edges."""
    return f"{job_uid}.participation"


def load_end(value: bytes) -> int | None:
    """Return the round; None where nobody can read it."""
    text = value.decode(errors="replace")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def dump_end(round: int) -> bytes:
    return str(round).encode()


def recent_keys(job_uid: str, round: int) -> list[str]:
    """Return the keys of the rounds that may still have models to delete, oldest first, up to ``round``."""
    return [key_of(job_uid, each) for each in range(max(0, round - LOOK_BACK), round + 1)]


def load(value: bytes) -> Aggregation:
    """Read a record. Raises Refused if it is none."""
    try:
        return Aggregation.from_json(_SIGNED.sub(b"", value))
    except ValidationError as error:
        raise refusal_of(error, f"a close record in bucket {ROUNDS}") from None


def dump(closed: Aggregation, signer: Ed25519Signer | None = None) -> bytes:
    """Return a record: JSON, and where it is signed one more line with the public key and the signature of the bytes
    before it."""
    document = closed.model_dump_json(exclude_none=True).encode()
    if signer is None:
        return document
    words = (base64.urlsafe_b64encode(each).rstrip(b"=") for each in (signer.public, signer.sign(document)))
    return document + b"\n" + b".".join(words)


def signer_of(value: bytes) -> bytes | None:
    """Return the public key that has signed a record; None where none has."""
    found = _SIGNED.search(value)
    if found is None:
        return None
    public, signature = (base64.urlsafe_b64decode(word + b"=" * (-len(word) % 4)) for word in found.groups())
    return public if ed25519.verified(public, signature, value[: found.start()]) else None


def written(closed: Aggregation) -> frozenset[str]:
    """Return the digests of all blobs that the round leaves in the bucket of models."""
    return _blobs(closed.model, closed.state, closed.down) | _personal(closed)


def result(closed: Aggregation) -> frozenset[str]:
    """Return the digests of the blobs that outlive the job: the global model and the edges' personal models."""
    return _blobs(closed.model) | _personal(closed)


class KeptModels:
    """The blobs of one job that stay: those of its newest ``KEPT_ROUNDS`` counted rounds, at its end only its result.

    Add close records in the order of their rounds; adding one twice changes nothing. A round that counted no update
    owns no blob: its record names the model of an earlier round, or one that does not belong to the job.
    """

    def __init__(self) -> None:
        self._rounds: dict[int, Aggregation] = {}

    def add(self, closed: Aggregation) -> list[str]:
        """Add a round's record; return the digests that it makes superfluous."""
        if closed.counted:
            self._rounds[closed.round] = closed
        newest = sorted(self._rounds)[-KEPT_ROUNDS:]
        stays = frozenset[str]().union(*(written(self._rounds[round]) for round in newest))
        gone = self.digests() - stays
        self._rounds = {round: self._rounds[round] for round in newest}
        return sorted(gone)

    def end(self, last: int | None = None) -> list[str]:
        """Return the digests to delete at the job's end: all but its result, the models of the newest round.

        Args:
            last: the round that the coordinator took as the job's last one; None where it said none.
        """
        rounds = [round for round in self._rounds if last is None or round <= last]
        stays = result(self._rounds[max(rounds)]) if rounds else frozenset[str]()
        return sorted(self.digests() - stays)

    def digests(self) -> frozenset[str]:
        """Return the digests of what stays."""
        return frozenset[str]().union(*(written(each) for each in self._rounds.values()))


def _personal(closed: Aggregation) -> frozenset[str]:
    return _blobs(*(closed.personal or {}).values())


def _blobs(*refs: WeightsRef | None) -> frozenset[str]:
    return frozenset(ref.digest for ref in refs if ref is not None and ref.inline is None)
