"""The condition of a job or service that says why pods of its workers do not run."""

from __future__ import annotations

from functools import partial
from typing import Any

from heliograph.bus.contract.resources import Condition, Resource
from heliograph.bus.contract.resources.base import condition
from heliograph.coordinator.feature import InstalledFeatures
from heliograph.coordinator.kubernetes.pod_workers import Problems
from heliograph.core.world import World

TYPE = "PodsRunning"
MOST = 5
"""Sentences in one condition, at most."""


async def tell_problems(features: InstalledFeatures, world: World, problems: Problems) -> None:
    """Write the condition of each job and service with a problem, and of each that had one."""
    for feature in features:
        if feature.kind.code_workers is Resource.code_workers:
            continue
        for resource in feature.resources():
            sentences = problems.get(resource.metadata.uid, [])
            if sentences or _has_problem(resource):
                decide = partial(_with_condition, sentences=sentences, now=world.timestamp())
                await feature.context.step(feature.kind, resource.name, decide)


def _has_problem(resource: Any) -> bool:
    return any(each.type == TYPE and each.status == "False" for each in resource.status.conditions)


def _with_condition(resource: Any, sentences: list[str], now: str) -> Any:
    if sentences:
        more = f"; and {len(sentences) - MOST} more" if len(sentences) > MOST else ""
        new = Condition(type=TYPE, status="False", reason="PodProblem", message="; ".join(sentences[:MOST]) + more)
    else:
        new = Condition(type=TYPE, status="True", reason="PodsRunning")
    after = condition(resource.status.conditions, new, now)
    if after is resource.status.conditions:
        return resource
    return resource.model_copy(update={"status": resource.status.model_copy(update={"conditions": after})})
