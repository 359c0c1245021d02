"""Jobs of incremental learning, their states and what workers say, from which tests of the loop begin."""

from __future__ import annotations

from typing import Any

from heliograph.bus.contract.payloads import Candidate, VerdictReport
from heliograph.bus.contract.resources import (
    GateFigures,
    IncrementalLearningJobSpec,
    LoopState,
    ShardRef,
    WeightsRef,
)
from heliograph.core.world import rfc3339
from heliograph.incremental import loop

T0 = 1_700_000_000.0
BASE, MADE = "b" * 64, "c" * 64


def spec_of(*names: str, **fields: Any) -> IncrementalLearningJobSpec:
    models = [{"model": {"name": name}, "workerSpec": {"trainScriptBootFile": "learn.py"}} for name in names or ["m"]]
    return IncrementalLearningJobSpec.model_validate({"models": models, "train": {"newSamples": 10}, **fields})


def ref(digest: str) -> WeightsRef:
    return WeightsRef(digest=digest, size=8, bucket="models")


def shard(number: int, samples: int = 8, held_out: bool = False) -> ShardRef:
    return ShardRef(number=number, samples=samples, held_out=held_out, weights=ref(f"{number:064x}"))


def at(seconds: float) -> str:
    return rfc3339(T0 + seconds)


def begun(state: LoopState, spec: IncrementalLearningJobSpec, *shards: ShardRef, now: float = 0.0) -> LoopState:
    return loop.begin(state, spec, "10 new samples", {each.model.name: BASE for each in spec.models}, shards, at(now))


def attempt_of(state: LoopState, model: str) -> int:
    return state.candidates[model].attempt if model in state.candidates else 1


def candidate(state: LoopState, model: str = "m", **changes: Any) -> Candidate:
    fields: dict[str, Any] = {
        "job": "j", "job_uid": "u", "round": state.round, "attempt": attempt_of(state, model), "edge": "cloud",
        "model": model, "base": BASE, "weights": ref(MADE), "memory": ref("d" * 64), "num_samples": 8,
    }  # fmt: skip
    return Candidate(**{**fields, **changes})


def verdict(state: LoopState, model: str = "m", decision: str = "passes", **changes: Any) -> VerdictReport:
    figures = GateFigures.model_validate({"decision": decision, "reasons": [] if decision == "passes" else ["worse"],
                                          "support": 300, "champion": 0.8, "candidate": 0.9})  # fmt: skip
    fields: dict[str, Any] = {
        "job": "j", "job_uid": "u", "round": state.round, "attempt": attempt_of(state, model), "edge": "cloud",
        "model": model, "candidate": MADE, "champion": BASE, "figures": figures,
    }  # fmt: skip
    return VerdictReport(**{**fields, **changes})
