"""One round's updates as a pure state machine: judge each update, and decide when the round closes.

An update's identity is (job uid, round, edge). It counts exactly once, even if repeated, reordered or replayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from heliograph.bus.contract.payloads import ModelUpdate, RoundSpec, UncountedUpdate
from heliograph.bus.contract.weights_header import Tensor
from heliograph.core.text import encodable

Judgement = Literal["stage", "duplicate", "late", "ahead", "uninvited", "refused", "foreign"]
CloseReason = Literal["complete", "quorum", "deadline"]
NOTED = 1000
"""Refused updates, late ones, and foreign ones that a close record notes at most."""
NOTED_OF_EDGE = 20
"""Of them one edge's, at most: a flood of one edge takes no place from the others' reasons. The rest is counted."""


@dataclass(frozen=True)
class Staged:
    """An update that has passed every check, with the source of its weights; the other fields are those of
    ``CheckedWeights``."""

    update: ModelUpdate
    num_samples: int
    source: Path | bytes
    tensors: Mapping[str, Tensor]
    distance: float | None = None
    unchanged: bool = False
    not_finite: frozenset[str] = frozenset()
    buffers: frozenset[str] = frozenset()


@dataclass
class Collection:
    """The updates of one round of one job.

    Attributes:
        began: monotonic seconds at which the round opened.
        staging: updates that are being fetched and checked, by edge.
        staged: updates that have passed every check, by edge.
        stopping: edges that ask to take part in no further round.
        uplink_bytes: bytes of updates that have come: those inside events, and blobs that were fetched.
        seconds: seconds from the round's start to the edge's update.
    """

    job_uid: str
    round: int
    base: str | None
    spec: RoundSpec
    min_updates: int
    began: float
    staging: dict[str, ModelUpdate] = field(default_factory=dict)
    staged: dict[str, Staged] = field(default_factory=dict)
    refused: list[UncountedUpdate] = field(default_factory=list)
    late: list[UncountedUpdate] = field(default_factory=list)
    foreign: list[UncountedUpdate] = field(default_factory=list)
    """Updates for another job of the same name, such as an earlier one: they are no answer of their edge."""
    stopping: set[str] = field(default_factory=set)
    duplicates: int = 0
    uplink_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    unnoted: int = 0
    """Updates that were not counted and have no place in these lists."""
    _refused_edges: set[str] = field(default_factory=set, repr=False)
    """Edges with a refused update of this round."""
    _notes: Counter[tuple[str, str]] = field(default_factory=Counter, repr=False)
    _asked: tuple[RoundSpec, frozenset[str]] | None = field(default=None, repr=False)

    @property
    def asked(self) -> frozenset[str]:
        """The participants; cached, since each of a thousand updates looks them up."""
        if self._asked is None or self._asked[0] is not self.spec:
            self._asked = self.spec, frozenset(self.spec.participants)
        return self._asked[1]

    @property
    def refused_edges(self) -> Set[str]:
        """The edges with a refused update of this round."""
        return self._refused_edges

    def judge(self, update: ModelUpdate, edge: str) -> tuple[Judgement, str]:
        """Return what to do with an update on ``edge``'s topic, and the reason where it is not used."""
        if update.edge != edge:
            return "refused", f"field edge: expected {edge}, whose topic it came on, got {update.edge}"
        if update.job_uid != self.job_uid:
            return "foreign", f"field job_uid: expected this job's {self.job_uid}, got {update.job_uid}"
        if update.round < self.round:
            return "late", f"round {update.round} was closed already; round {self.round} is open"
        if update.round == self.round + 1:
            return "ahead", ""
        if update.round > self.round:
            return "refused", f"field round: expected {self.round}, got {update.round}"
        known = self.staging.get(edge) or (self.staged[edge].update if edge in self.staged else None)
        if known is not None:
            if known.weights.digest == update.weights.digest:
                return "duplicate", ""
            return "refused", f"round {self.round}: a second update with other weights; the first one counts"
        if edge in self._refused_edges:
            return "duplicate", ""
        if edge not in self.asked:
            return "uninvited", f"edge {edge} was not asked in round {self.round}"
        return "stage", ""

    def refuse(self, edge: str, round: int, reason: str, digest: str = "") -> None:
        """Refuse an update. Stop waiting for this edge unless an earlier update of it is staging."""
        if round == self.round:
            self._refused_edges.add(edge)
        self._note("refused", self.refused, edge, round, reason, digest)

    def note_late(
        self, edge: str, round: int, reason: str, digest: str = "", seconds_late: float | None = None
    ) -> None:
        """Note an update that came after its round's close."""
        self._note("late", self.late, edge, round, reason, digest, seconds_late)

    def note_foreign(self, edge: str, round: int, reason: str) -> None:
        """Note an update for another job of this name."""
        self._note("foreign", self.foreign, edge, round, reason, "")

    def close_reason(self, now: float) -> CloseReason | None:
        """Return the reason to close the round now; None while it stays open."""
        counted = len(self.staged)
        enough = counted >= self.min_updates
        if self.staging:  # wait for them, but not beyond the deadline: some weights never come
            return "deadline" if enough and now >= self.deadline else None
        if self.spec.quorum is not None and counted >= self.spec.quorum:
            return "quorum"
        if now < self.deadline and counted + len(self._refused_edges) < min(len(self.spec.participants),
                                                                     len(self.spec.reachable) or 1 << 30):  # fmt: skip
            return None  # first, since this runs for each update of a thousand participants
        answered = self.staged.keys() | self._refused_edges
        if self.asked <= answered:
            return "complete"
        if enough and self.spec.reachable and set(self.spec.reachable) <= answered:
            return "complete"
        return "deadline" if enough and now >= self.deadline else None

    def seconds_to_deadline(self, now: float) -> float | None:
        """Return the seconds until the deadline; None once it has passed: only an update can close it then."""
        return self.deadline - now if now < self.deadline else None

    def mark_staging_late(self) -> list[str]:
        """Mark the updates that are still staging as late, since the round closes. Return their edges."""
        edges = sorted(self.staging)
        for edge in edges:
            reason = f"round {self.round}: its weights had not come when the round was closed"
            digest = self.staging[edge].weights.digest  # only a blob takes time to stage
            self.note_late(edge, self.round, reason, digest, seconds_late=0.0)
        self.staging.clear()
        return edges

    def keep_one_start(self) -> None:
        """Keep the initial weights of one edge, the first by name: the mean of several random beginnings is worse than
        any of them."""
        first = min(self.staged, default="")
        for edge in sorted(self.staged.keys() - {first}):
            weights = self.staged.pop(edge).update.weights
            reason, digest = f"the initial weights of {first} were taken", weights.digest
            self.note_late(edge, self.round, reason, digest if weights.inline is None else "")

    def _note(
        self, kind: str, notes: list[UncountedUpdate], edge: str, round: int, reason: str, digest: str,
        seconds_late: float | None = None,
    ) -> None:  # fmt: skip
        self._notes[kind, edge] += 1
        if self._notes[kind, edge] > NOTED_OF_EDGE or len(notes) >= NOTED:
            self.unnoted += 1
        else:
            notes.append(UncountedUpdate(edge=edge, round=round, reason=encodable(reason)[:1000], digest=digest,
                                         seconds_late=seconds_late))  # fmt: skip

    @property
    def deadline(self) -> float:
        return self.began + self.spec.deadline_seconds
