"""Decide on a candidate that answers requests: wait, promote it, or take it back. Pure; no labels are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from heliograph.bus.contract.payloads import VersionStats
from heliograph.bus.contract.resources.canary import Canary
from heliograph.bus.contract.resources.learning_progress import CandidateState
from heliograph.core.latencies import percentile

Answer = Literal["wait", "promote", "roll-back"]


@dataclass(frozen=True)
class VersionCounts:
    """Counts of the answers of one version.

    Attributes:
        requests: answers and errors.
        p99_seconds: 99th percentile of a request's latency; None without an answer.
    """

    requests: int = 0
    errors: int = 0
    p99_seconds: float | None = None

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class CanaryFacts:
    """What the inference workers have counted since the candidate began to answer.

    Attributes:
        compared: requests that both versions answered; ``agreed``: with the same result.
        rejected: workers in which the candidate did not stand its trial.
        taken_back: True where somebody has taken the candidate back by hand.
    """

    champion: VersionCounts = field(default_factory=VersionCounts)
    candidate: VersionCounts = field(default_factory=VersionCounts)
    compared: int = 0
    agreed: int = 0
    rejected: int = 0
    taken_back: bool = False


def facts_of(candidate: CandidateState, counted: Mapping[str, VersionStats]) -> CanaryFacts:
    """Return the counts of a candidate and of the champion that it was trained from.

    Args:
        counted: what the inference workers have counted of each version, by its digest.
    """
    digest = candidate.weights.digest if candidate.weights is not None else ""
    return facts_between(counted.get(candidate.base, _NONE), counted.get(digest, _NONE))


def facts_between(champion: VersionStats, candidate: VersionStats) -> CanaryFacts:
    """Return the facts of what the inference workers have counted of both versions."""
    return CanaryFacts(
        champion=_counts(champion),
        candidate=_counts(candidate),
        compared=candidate.compared,
        agreed=candidate.agreed,
        rejected=candidate.rejected,
    )


def judge(rule: Canary, facts: CanaryFacts, seconds: float) -> tuple[Answer, str]:
    """Return the decision on a canary, and why.

    A worker in which the candidate did not stand its trial is decisive. So are errors as soon as there are more than
    any outcome of the wanted number of requests would allow; the other bounds are once that many have been answered.

    Args:
        seconds: since the candidate began to answer.
    """
    if trouble := _trouble(rule, facts, rule.least_requests):
        return "roll-back", trouble
    if facts.candidate.requests >= rule.least_requests:
        return "promote", f"{facts.candidate.requests} answers within the bounds"
    if seconds >= rule.deadline_seconds:
        return "roll-back", (f"only {facts.candidate.requests} of {rule.least_requests} answers in "
                             f"{rule.deadline_seconds:g} s")  # fmt: skip
    return "wait", f"{facts.candidate.requests} of {rule.least_requests} answers"


def watch(rule: Canary, facts: CanaryFacts, seconds: float) -> tuple[Answer, str]:
    """Return the decision on a version that answers all requests since its deployment, and why."""
    if trouble := _trouble(rule, facts, rule.least_requests):
        return "roll-back", trouble
    if seconds >= rule.watch_seconds:
        return "promote", f"{facts.candidate.requests} answers within the bounds"
    return "wait", f"{rule.watch_seconds - seconds:.0f} s to go"


def _trouble(rule: Canary, facts: CanaryFacts, least: int) -> str:
    if facts.rejected:
        return f"it did not stand its trial in {facts.rejected} worker{'s' if facts.rejected > 1 else ''}"
    champion, candidate = facts.champion, facts.candidate
    allowed = champion.error_rate + rule.most_errors
    if candidate.errors > allowed * max(candidate.requests, least):
        return f"{candidate.errors} errors in {candidate.requests} requests; the champion has {champion.error_rate:.1%}"
    if candidate.requests < least:
        return ""
    if champion.p99_seconds and candidate.p99_seconds and (
        candidate.p99_seconds > rule.most_latency * champion.p99_seconds
    ):  # fmt: skip
        return (f"p99 {candidate.p99_seconds * 1000:.1f} ms, more than {rule.most_latency:g} times the champion's "
                f"{champion.p99_seconds * 1000:.1f} ms")  # fmt: skip
    if facts.compared and facts.agreed < rule.least_agreement * facts.compared:
        return f"agrees with the champion in {facts.agreed} of {facts.compared} answers"
    return ""


def _counts(counted: VersionStats) -> VersionCounts:
    return VersionCounts(counted.requests, counted.errors, percentile(counted.latencies, 0.99))


_NONE = VersionStats()
