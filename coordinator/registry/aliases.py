"""Move aliases of a model's versions, and bind edges to them. Pure: each function returns the model to store."""

from __future__ import annotations

from collections.abc import Iterable

from heliograph.bus.contract.model_requests import AliasChange, Rollback
from heliograph.bus.contract.resources import BEST, CHAMPION, AliasMove, Model, resolve
from heliograph.core.errors import Refused

MOVES_KEPT = 16
"""Moves of one alias that a model remembers: as many rollbacks go back one after the other."""
MOST_ALIASES = 32
"""Aliases of one model, at most."""


def change(model: Model, request: AliasChange, caller: str, now: str) -> Model:
    """Return the model after a request to move, bind or remove an alias. Raise Refused where it cannot be done."""
    status, alias = model.status, request.alias
    named = status.aliases.get(alias)
    if request.was is not None and named != request.was:
        raise Refused("conflict", field="was", expected=f"version {named}, which {alias} names now" if named is not None
                      else f"no version: there is no alias {alias} now", got=request.was,
                      hint="Somebody has moved it meanwhile: look at it, and decide again.")  # fmt: skip
    if request.remove:
        if named is None:
            raise _no_alias(model, alias)
        return _bound(_removed(model, alias), alias, ())
    if request.version is not None and request.version != named:
        check_version(model, request.version, "version")
        if named is None and len(status.aliases) >= MOST_ALIASES:
            raise Refused("too-many", field="alias", expected=f"at most {MOST_ALIASES} aliases of one model", got=alias)
        model = moved(model, alias, request.version, caller, now)
    if request.edges is not None:
        if alias not in model.status.aliases:
            raise _no_alias(model, alias)
        if request.edges:
            check_version(model, model.status.aliases[alias], "edges")
        model = _bound(model, alias, request.edges)
    return model


def roll_back(model: Model, request: Rollback, caller: str, now: str) -> Model:
    """Return the model with an alias back at an earlier version. Raise Refused where there is none."""
    alias, target = request.alias, request.to
    earlier = _stack(model, alias)
    if target is not None:
        check_version(model, target, "to")
    elif earlier:
        target = earlier[-1]
    elif alias == CHAMPION:
        target = _before_deployed(model)
    elif alias not in model.status.aliases:
        raise _no_alias(model, alias)
    if target is None:
        raise Refused("no-version", topic=f"model/{model.name}", field="to", expected=_numbers(model),
                      got=f"nothing, and {alias} named no other version before",
                      hint="Name the version to go back to.")  # fmt: skip
    if target == model.status.aliases.get(alias):
        return model
    return moved(model, alias, target, caller, now, rollback=True)


def moved(model: Model, alias: str, version: int, caller: str, now: str, *, rollback: bool = False) -> Model:
    """Return the model after an alias has moved to a version that it has."""
    status = model.status
    was = status.aliases.get(alias)
    if was is None and alias == CHAMPION and (deployed := resolve(model)) is not None:
        was = deployed.version  # the newest: a rollback deploys it again
    move = AliasMove(alias=alias, version=version, was=was, time=now, by=caller, rollback=rollback)
    own = [each for each in status.moves if each.alias == alias][-MOVES_KEPT + 1 :]
    others = [each for each in status.moves if each.alias != alias]
    aliases = dict(sorted({**status.aliases, alias: version}.items()))
    moves = sorted([*others, *own, move], key=lambda each: each.time)
    return model.model_copy(update={"status": status.model_copy(update={"aliases": aliases, "moves": moves})})


def referred(model: Model) -> set[int]:
    """Return the numbers of the versions that something refers to: what is deployed, what aliases name, and what a
    rollback would go back to."""
    found = set(model.status.aliases.values())
    found |= {stack[-1] for alias in (*model.status.aliases, CHAMPION) if (stack := _stack(model, alias))}
    if (deployed := resolve(model)) is not None:
        found.add(deployed.version)
    if model.status.rollout is not None:
        found.add(model.status.rollout.version)
    before = _before_deployed(model)
    return found if before is None else found | {before}


def without_lost_best(model: Model) -> Model:
    """Return the model without the alias ``BEST`` where it names what is kept no longer: the unfinished model of an old
    job."""
    number = model.status.aliases.get(BEST)
    there = _known(model) | {each.version for each in model.status.unfinished}
    return model if number is None or number in there else _removed(model, BEST)


def check_version(model: Model, number: int, field: str) -> None:
    """Raise Refused, naming the field, where a model has no version of that number that can be deployed."""
    if number in _known(model):
        return
    unfinished = any(each.version == number for each in model.status.unfinished)
    got = f"{number}, what a job left that failed or was stopped" if unfinished else number
    hint = "Download it, and upload it as a model of its own." if unfinished else ""
    raise Refused("no-version", topic=f"model/{model.name}", field=field, expected=_numbers(model), got=got, hint=hint)


def _stack(model: Model, alias: str) -> list[int]:
    """Return the versions that rollbacks of an alias lead back to, the next one last."""
    found: list[int] = []
    for move in model.status.moves:
        if move.alias != alias:
            continue
        if move.rollback:  # what was taken back is not gone back to
            found = found[: _last_index(found, move.version)]
        elif move.was is not None:
            found.append(move.was)
    known = _known(model)
    return [number for number in found if number in known]


def _last_index(numbers: list[int], wanted: int) -> int:
    """Return the last place of a number in a list; 0 where it is not there."""
    return max((place for place, number in enumerate(numbers) if number == wanted), default=0)


def _before_deployed(model: Model) -> int | None:
    """Return the newest version that is older than the one deployed on edges that are bound to no alias, and that was
    the newest one once: the best model of a job that ended with another one was not."""
    deployed = resolve(model)
    ended_with = {(each.job, each.time): each.version for each in model.status.versions if each.job}
    never = {each.version for each in model.status.versions
             if each.job and ended_with[each.job, each.time] != each.version}  # fmt: skip
    older = [number for number in _known(model) - never if deployed is not None and number < deployed.version]
    return max(older, default=None)


def _known(model: Model) -> set[int]:
    declared = {0} if model.spec.weights is not None else set()
    return declared | {each.version for each in model.status.versions}


def _numbers(model: Model) -> str:
    known = sorted(_known(model))
    return ", ".join(str(each) for each in known[-20:]) or "a version, and the model has none yet"


def _no_alias(model: Model, alias: str) -> Refused:
    known = ", ".join(sorted(model.status.aliases)) or "an alias, and the model has none; give it a version"
    return Refused("not-found", topic=f"model/{model.name}", field="alias", expected=known, got=alias)


def _removed(model: Model, alias: str) -> Model:
    """Return the model without an alias, and without its moves: one of that name that is made later begins anew."""
    status = model.status
    aliases = {name: number for name, number in status.aliases.items() if name != alias}
    moves = [each for each in status.moves if each.alias != alias]
    return model.model_copy(update={"status": status.model_copy(update={"aliases": aliases, "moves": moves})})


def _bound(model: Model, alias: str, edges: Iterable[str]) -> Model:
    """Bind exactly these edges to an alias; each leaves the alias that it was bound to before."""
    own = sorted(set(edges))
    others = {
        name: kept
        for name, bound in model.status.bindings.items()
        if name != alias and (kept := [edge for edge in bound if edge not in own])
    }
    bindings = others | ({alias: own} if own else {})
    if bindings == model.status.bindings:
        return model
    changed = model.status.model_copy(update={"bindings": dict(sorted(bindings.items()))})
    return model.model_copy(update={"status": changed})
