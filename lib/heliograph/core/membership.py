"""Membership of evaluation sets: by the hash of a sample's id, never by its place or age.

A sample belongs to the same side for ever, on every node, whatever is appended, shuffled or removed: nobody trains on a
sample that a gate measures with, and the newest tail, which differs from the rest in time, is no evaluation set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from heliograph.core.errors import Refused

PARTS = 100
"""Parts of equal size that the ids fall into."""
MAX_SALT = 64


def part_of(sample_id: str, salt: str = "") -> int:
    """Return the part of a sample, 0 to 99: the first 8 bytes of SHA-256 of salt, a zero byte and id, mod 100.

    Args:
        sample_id: the sample's identity, by preference the SHA-256 of its content: equal samples are on one side then.
        salt: name of the division. Another salt divides the same samples anew.
    """
    digest = hashlib.sha256(f"{salt}\0{sample_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % PARTS


@dataclass(frozen=True)
class HeldOut:
    """A rule that says which samples are held out: those of the first ``percent`` of 100 parts.

    A larger percentage with the same salt holds out all that a smaller one does, and more. Raises Refused where the
    percentage or the salt is not usable.
    """

    percent: int
    salt: str = ""

    def __post_init__(self) -> None:
        if type(self.percent) is not int or not 0 < self.percent < PARTS:
            raise Refused("invalid", field="percent", expected=f"a whole number from 1 to {PARTS - 1}",
                          got=self.percent)  # fmt: skip
        if len(self.salt) > MAX_SALT or "\0" in self.salt:
            raise Refused("invalid", field="salt", expected=f"at most {MAX_SALT} characters without a zero byte",
                          got=self.salt)  # fmt: skip

    def __contains__(self, sample_id: str) -> bool:
        return part_of(sample_id, self.salt) < self.percent

    def split(self, sample_ids: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return the ids to train on, and the held-out ones, each in the given order."""
        train: list[str] = []
        held_out: list[str] = []
        for each in sample_ids:
            (held_out if each in self else train).append(each)
        return train, held_out


@dataclass(frozen=True)
class EvaluationSet:
    """One version of an evaluation set.

    Attributes:
        version: SHA-256 of the rule and of the members' ids, sorted: equal members under one rule have one version.
        parent: version of the set that this one follows; empty for the first.
    """

    rule: HeldOut
    version: str
    count: int
    parent: str = ""

    @classmethod
    def of(cls, rule: HeldOut, sample_ids: Iterable[str], parent: str = "") -> EvaluationSet:
        """Return the version whose members are the held-out samples among these.

        Raise Refused where an id is there twice, or none is held out.
        """
        members = sorted(each for each in sample_ids if each in rule)
        for one, other in pairwise(members):
            if one == other:
                raise Refused("twice", field="sample id", expected="each sample once", got=one)
        if not members:
            raise Refused("no-samples", field="samples", expected=f"samples of which {rule.percent} % are held out",
                          got="none that is", hint="Collect more samples, or hold out a larger part.")  # fmt: skip
        digest = hashlib.sha256(f"{rule.percent} {rule.salt}\n".encode())
        for each in members:
            digest.update(each.encode() + b"\n")
        return cls(rule, digest.hexdigest(), len(members), parent)
