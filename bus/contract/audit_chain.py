"""The chain of audit records: each has the SHA-256 of the bytes of the one before, so that none can be changed, taken
out or put in without all later ones being made again."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.event_signature import check_event_signature
from heliograph.bus.contract.payloads import AuditRecord
from heliograph.bus.contract.topics import AUDIT
from heliograph.core.errors import Refused

FIRST = 64 * "0"
"""What the first record of all names as the one before it."""


def hash_of(body: bytes) -> str:
    """Return the hash by which the next record names this one: of the very bytes that are stored."""
    return hashlib.sha256(body).hexdigest()


@dataclass(frozen=True)
class Head:
    """The newest record of a chain: its number and its hash. Whoever keeps it notices that later the end is missing."""

    n: int = 0
    hash: str = FIRST

    @classmethod
    def parse(cls, text: str) -> Head:
        """Parse ``N:HASH``. Raise Refused for any other text."""
        n, colon, digest = text.partition(":")
        if not (colon and n.isascii() and n.isdigit() and len(n) < 16 and len(digest) == len(FIRST)):
            expected = "N:HASH, as an earlier verification has printed"
            raise Refused("invalid", field="--head", expected=expected, got=text)
        return cls(int(n), digest)

    def __str__(self) -> str:
        return f"{self.n}:{self.hash}"


@dataclass
class ChainCheck:
    """Checks a chain, record by record from the first on.

    Attributes:
        trusted: public keys, one of which has to have signed each record; without any, signatures are not looked at.
        head: the newest record so far.
        begins: number of the first record: above 1 where the stream has dropped the oldest.
        problems: a sentence for each thing that is wrong.
        known: a head from earlier, which the chain has to contain.
    """

    trusted: Collection[bytes] = ()
    known: Head | None = None
    head: Head = field(default_factory=Head)
    begins: int = 0
    problems: list[str] = field(default_factory=list)

    def take(self, body: bytes, topic: str) -> AuditRecord | None:
        """Check the next record; return it if it can be read. The check goes on after a problem."""
        try:
            event = decode(body, topic)
            record = AUDIT.validate(event.data, topic)
        except Refused as error:
            self.problems.append(f"after record {self.head.n}: no audit record: {error}")
            self.head = Head(self.head.n + 1, hash_of(body))
            return None
        if self.trusted:
            try:
                check_event_signature(event, body, topic, self.trusted, "a coordinator")
            except Refused as error:
                self.problems.append(f"record {record.n}: {error}")
        if not self.begins:
            self.begins = record.n
            if record.n == 1 and record.previous != FIRST:
                self.problems.append("record 1 names one before it")
        elif record.n != self.head.n + 1:
            self.problems.append(f"record {record.n} follows record {self.head.n}")
        elif record.previous != self.head.hash:
            self.problems.append(f"record {self.head.n} is not the one that record {record.n} was written after")
        self.head = Head(record.n, hash_of(body))
        if self.known is not None and self.known.n == record.n and self.known.hash != self.head.hash:
            self.problems.append(f"record {record.n} has changed since its hash was noted")
        return record

    def end(self) -> None:
        """Note what is missing at the end."""
        if self.known is not None and self.known.n > self.head.n:
            self.problems.append(f"the chain ends at record {self.head.n}, and record {self.known.n} was known")
