"""Let a version answer a share of the requests, then all of them or none, by what inference workers count. Pure: each
function returns the model to store, the same object where nothing changes.

A job's rollout has no bounds of its own: the job decides on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from heliograph.bus.contract.model_requests import AliasChange, Rollback, RolloutStart
from heliograph.bus.contract.payloads import VersionStats
from heliograph.bus.contract.resources import CHAMPION, Condition, Model, condition, resolve
from heliograph.bus.contract.resources.model import numbered
from heliograph.bus.contract.resources.rollout import CountsBefore, Rollout
from heliograph.coordinator.registry import aliases
from heliograph.core.errors import Refused
from heliograph.incremental import canary
from heliograph.incremental.loop import seconds

ROLLED_OUT = "RolledOut"
_NOTHING = VersionStats()


def is_watched(model: Model) -> bool:
    """Return whether a version of the model is rolled out, and the registry decides on it."""
    return model.status.rollout is not None and model.status.rollout.bounds is not None


def begin(
    model: Model, request: RolloutStart, counted: Mapping[str, VersionStats], caller: str, now: str
) -> Model:
    """Let a version answer a share of the requests; what is deployed becomes the champion. Raise Refused where another
    version is tried, or there is none that it could be beside."""
    status, bounds = model.status, request.canary
    tried = status.rollout
    aliases.check_version(model, request.version, "version")
    if tried is not None and tried.step == "canary":
        if (tried.version, tried.bounds) == (request.version, bounds):
            return model  # the same request again
        raise Refused("conflict", topic=f"model/{model.name}", field="version", got=request.version,
                      expected=f"no other version under way; version {tried.version} answers {tried.share:.0%}",
                      hint=f"Wait for it, or take it back: heliograph rollback models/{model.name}")  # fmt: skip
    version, deployed = numbered(model, request.version), resolve(model)
    assert version is not None
    if deployed is None or deployed.weights.digest == version.weights.digest:
        raise Refused("invalid", topic=f"model/{model.name}", field="version", got=request.version,
                      expected="another version than the deployed one, which it is compared with",
                      hint="Add it by: heliograph models upload NAME FILE --no-deploy")  # fmt: skip
    if CHAMPION not in status.aliases:
        model = aliases.moved(model, CHAMPION, deployed.version, caller, now)
    before = counted.get(version.weights.digest, _NOTHING)
    rollout = Rollout(
        version=version.version, by=bounds.by, share=bounds.share, salt=f"{version.version} {now}",
        requested_by=caller, time=now, bounds=bounds, since=now, base=deployed.weights.digest,
        before=CountsBefore.model_validate(before.model_dump()),
    )  # fmt: skip
    return _told(_with(model, rollout), "Unknown", "Canary",
                 f"version {version.version} answers {bounds.share:.0%} of the {bounds.by}", now)  # fmt: skip


def decide(model: Model, counted: Mapping[str, VersionStats], now: str) -> Model:
    """Take the step of a rollout that is due: nothing, all requests for the version, none, or the end of its watch."""
    rollout = model.status.rollout
    if rollout is None or rollout.bounds is None:
        return model
    version, deployed = numbered(model, rollout.version), resolve(model)
    digest = version.weights.digest if version is not None else ""
    expected = rollout.base if rollout.step == "canary" else digest
    if deployed is None or deployed.weights.digest != expected:
        if deployed is not None and deployed.weights.digest == digest:
            return _ended(model, "True", "Deployed", f"version {rollout.version} was deployed on request", now)
        return given_up(model, "another version was deployed meanwhile", now)
    passed = seconds(now) - seconds(rollout.since)
    if passed < 0:  # the clock was set back
        return _with(model, rollout.model_copy(update={"since": now}))
    own = _since(counted.get(digest, _NOTHING), rollout.before)
    facts = canary.facts_between(counted.get(rollout.base, _NOTHING), own)
    in_canary = rollout.step == "canary"
    answer, why = (canary.judge if in_canary else canary.watch)(rollout.bounds, facts, passed)
    if answer == "wait":
        return model
    if answer == "roll-back":
        if not in_canary:
            model = aliases.roll_back(model, Rollback(name=model.name), rollout.requested_by, now)
        return given_up(model, why, now)
    message = f"version {rollout.version}: {why}"
    if not in_canary:
        return _ended(model, "True", "Deployed", message, now)
    move = AliasChange(name=model.name, alias=CHAMPION, version=rollout.version)
    model = aliases.change(model, move, rollout.requested_by, now)
    watched = rollout.model_copy(update={"step": "watching", "since": now}) if rollout.bounds.watch_seconds else None
    return _told(_with(model, watched), "True", "Deployed", message, now)


def roll_back(model: Model, request: Rollback, caller: str, now: str) -> Model:
    """Return the model with an alias back at an earlier version; a version that is still tried beside the champion, by
    the registry or by a job, is taken back in its place. Raise Refused where there is nothing to go back to."""
    rollout = model.status.rollout
    if rollout is None or request.alias != CHAMPION or request.to == rollout.version:
        return aliases.roll_back(model, request, caller, now)
    if rollout.step != "canary" or request.to is not None:
        model = aliases.roll_back(model, request, caller, now)
    return _ended(model, "False", "RolledBack", _taken_back(rollout.version), now)


def is_taken_back(model: Model, version: int) -> bool:
    """Return whether the version that was tried last is this one, and somebody has taken it back."""
    rollout = model.status.rollout
    if rollout is not None and rollout.version == version:
        return False  # it is tried again
    return any(each.type == ROLLED_OUT and each.message == _taken_back(version) for each in model.status.conditions)


def given_up(model: Model, why: str, now: str) -> Model:
    """Return the model without the rollout that the registry decides on, and tell why."""
    rollout = model.status.rollout
    if rollout is None or rollout.bounds is None:
        return model
    return _ended(model, "False", "RolledBack", f"version {rollout.version}: {why}", now)


def _since(counted: VersionStats, before: CountsBefore) -> VersionStats:
    """Return what has been counted of a version since its rollout began. A worker's counts may be forgotten."""
    names = ("requests", "errors", "compared", "agreed", "rejected")
    left = {name: max(0, getattr(counted, name) - getattr(before, name)) for name in names}
    latencies = {bucket: number for bucket, count in counted.latencies.items()
                 if (number := count - before.latencies.get(bucket, 0)) > 0}  # fmt: skip
    return VersionStats(**left, latencies=latencies)


def _taken_back(version: int) -> str:
    return f"version {version}: taken back on request"


def _ended(model: Model, status: Literal["True", "False"], reason: str, message: str, now: str) -> Model:
    return _told(_with(model, None), status, reason, message, now)


def _told(model: Model, status: Literal["True", "False", "Unknown"], reason: str, message: str, now: str) -> Model:
    told = Condition(type=ROLLED_OUT, status=status, reason=reason, message=message[:2000])
    conditions = condition(model.status.conditions, told, now)
    return model.model_copy(update={"status": model.status.model_copy(update={"conditions": conditions})})


def _with(model: Model, rollout: Rollout | None) -> Model:
    return model.model_copy(update={"status": model.status.model_copy(update={"rollout": rollout})})
