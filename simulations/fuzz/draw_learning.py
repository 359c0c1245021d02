"""Drawing the learning jobs of a plan. Pure: the same on every machine."""

from __future__ import annotations

import random  # noqa: TID251 only its type: the generator is seeded
from collections.abc import Sequence

from heliograph.core.names import CLOUD
from heliograph.simulations.fuzz.learning_plan import Act, ActVerb, LearningJob, PairJob

SHARE = 1 / 3
"""Share of the plans with learning jobs: such a run takes a few times as long as another one."""
_BY_HAND: Sequence[ActVerb] = ("training", "evaluation", "deployment")


def draw_learning(rng: random.Random, edges: Sequence[str]) -> tuple[tuple[LearningJob, ...], tuple[PairJob, ...]]:
    """Draw one or two incremental jobs, and perhaps a pair job; nothing for most plans."""
    if rng.random() >= SHARE:
        return (), ()
    learning = tuple(_learning_job(rng, number, edges) for number in range(1, rng.choice((1, 1, 1, 2)) + 1))
    pairs = (_pair_job(rng, edges),) if rng.random() < 0.4 else ()
    return learning, pairs


def _learning_job(rng: random.Random, number: int, edges: Sequence[str]) -> LearningJob:
    at = round(rng.uniform(0.0, 4.0), 2)
    location = rng.choice(("cloud", "edge"))
    return LearningJob.model_validate({
        "name": f"learn-{number}", "location": location, "at": at, "size": rng.choice(("tiny", "tiny", "blob")),
        "node": rng.choice((CLOUD, *edges)) if location == "cloud" else CLOUD,
        "edges": sorted(rng.sample(list(edges), rng.randint(1, min(3, len(edges))))),
        "samples": rng.randint(4, 16), "pause": rng.choice((0.2, 0.5, 1.0)), "new_samples": rng.randint(2, 8),
        "every": rng.choice((0.0, 0.0, 4.0, 8.0)), "rounds": rng.choice((0, 0, 0, rng.randint(1, 3))),
        "declared": rng.random() < 0.8, "broken": rng.choice((0.0, 0.0, 0.3)),
        "good": rng.choice((1.0, 0.7, 0.4)), "canary": rng.random() < 0.5, "steady": rng.choice((1.0, 0.5)),
        "overlap": rng.choice((1, 1, 2)), "lease": rng.choice((2.0, 4.0, 8.0)), "acts": _acts(rng, at),
    })  # fmt: skip


def _acts(rng: random.Random, at: float) -> list[Act]:
    found = [_act(rng, at, rng.choice(_BY_HAND)) for _ in range(rng.choice((0, 0, 1, 2)))]
    if rng.random() < 0.3:
        found.append(_act(rng, at, "update"))
    if rng.random() < 0.3:
        found += _stopped(rng, at, goes_on=rng.random() < 0.8)
    if rng.random() < 0.15:
        found.append(_act(rng, at, "delete"))
    return sorted(found, key=lambda each: each.at)


def _stopped(rng: random.Random, at: float, goes_on: bool) -> list[Act]:
    stop = _act(rng, at, "stop")
    return [stop, Act(verb="start", at=round(stop.at + rng.uniform(0.1, 6.0), 2))] if goes_on else [stop]


def _act(rng: random.Random, at: float, verb: ActVerb) -> Act:
    return Act(verb=verb, at=round(at + rng.uniform(1.0, 18.0), 2))


def _pair_job(rng: random.Random, edges: Sequence[str]) -> PairJob:
    at = round(rng.uniform(0.0, 6.0), 2)
    acts = _stopped(rng, at, goes_on=True) if rng.random() < 0.3 else []
    if rng.random() < 0.1:
        acts.append(_act(rng, at, "delete"))
    return PairJob.model_validate({
        "name": "pair-1", "at": at, "size": rng.choice(("tiny", "blob")), "node": rng.choice((CLOUD, *edges)),
        "public": rng.random() < 0.5, "service": rng.random() < 0.5, "good": rng.choice((1.0, 1.0, 0.5)),
        "acts": sorted(acts, key=lambda each: each.at),
    })  # fmt: skip
