"""One round's updates, as a pure state machine: what to do with each that comes, and when the round is due to close.

An update's identity is (job uid, round, edge). It counts exactly once, whatever is repeated, reordered or replayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from heliograph.bus.contract.payloads import ModelUpdate, RoundSpec, UncountedUpdate
from heliograph.bus.contract.weights_file import Tensor

Judgement = Literal["stage", "duplicate", "late", "ahead", "uninvited", "refused", "foreign"]
CloseReason = Literal["complete", "quorum", "deadline"]


@dataclass(frozen=True)
class Staged:
    """An update that has passed every check: where its weights lie, and what their header says."""

    update: ModelUpdate
    num_samples: int
    source: Path | bytes
    tensors: Mapping[str, Tensor]


@dataclass
class Collection:
    """The updates of one round of one job.

    Attributes:
        began: monotonic seconds at which the round was asked for.
        staging: edges whose update is being fetched and checked.
        answered: edges that need not be waited for: counted, refused, or being looked at.
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
    """What names another job of the same name, an earlier one's say: its edge has not answered by it."""
    duplicates: int = 0
    _asked: tuple[RoundSpec, frozenset[str]] | None = field(default=None, repr=False)

    @property
    def asked(self) -> frozenset[str]:
        """The participants; looked up for each update of a thousand."""
        if self._asked is None or self._asked[0] is not self.spec:
            self._asked = self.spec, frozenset(self.spec.participants)
        return self._asked[1]

    def judge(self, update: ModelUpdate, edge: str) -> tuple[Judgement, str]:
        """What to do with an update that came on ``edge``'s topic, and why where it is not used."""
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
        if any(each.edge == edge and each.round == self.round for each in self.refused):
            return "duplicate", ""
        if edge not in self.asked:
            return "uninvited", f"edge {edge} was not asked in round {self.round}"
        return "stage", ""

    def refuse(self, edge: str, round: int, reason: str, digest: str = "") -> None:
        """Notes a refusal; its edge is not waited for any more, but for an earlier update of its that is staging."""
        self.refused.append(UncountedUpdate(edge=edge, round=round, reason=reason[:1000], digest=digest))

    def close_reason(self, now: float) -> CloseReason | None:
        """Why the round is to be closed now; None while it is not."""
        counted = len(self.staged)
        enough = counted >= self.min_updates
        if self.staging:  # waited for, but an update whose weights never come must not hold the others
            return "deadline" if enough and now >= self.deadline else None
        if self.spec.quorum is not None and counted >= self.spec.quorum:
            return "quorum"
        if now < self.deadline and counted + len(self.refused) < min(len(self.spec.participants),
                                                                     len(self.spec.reachable) or 1 << 30):  # fmt: skip
            return None  # of a thousand participants each update is looked at here
        answered = self.staged.keys() | {each.edge for each in self.refused if each.round == self.round}
        if self.asked <= answered:
            return "complete"
        if enough and self.spec.reachable and set(self.spec.reachable) <= answered:
            return "complete"
        return "deadline" if enough and now >= self.deadline else None

    def due_in(self, now: float) -> float | None:
        """Seconds from ``now`` until the deadline; None once it is past: only another update can close it then."""
        return self.deadline - now if now < self.deadline else None

    def give_up(self) -> list[str]:
        """The round closes now: what is still being looked at is late. Returns the edges it came from."""
        edges = sorted(self.staging)
        for edge in edges:
            reason = f"round {self.round}: its weights had not come when the round was closed"
            digest = self.staging[edge].weights.digest  # only a blob is waited for
            self.late.append(UncountedUpdate(edge=edge, round=self.round, reason=reason, digest=digest))
        self.staging.clear()
        return edges

    @property
    def deadline(self) -> float:
        return self.began + self.spec.deadline_seconds
