"""The timeline of changes, computed from a scenario and a seed. Pure: the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from heliograph.core.world import seeded
from heliograph.simulations.scenario.consistency import COORDINATOR
from heliograph.simulations.scenario.document import Behaviour, EdgeSelection, Fault, Outage, Scenario
from heliograph.simulations.scenario.quantities import draw_from

Action = Literal["link", "latency", "process", "restart", "disk", "clock", "behaviour", "pace"]
Span = tuple[float, float]


@dataclass(frozen=True)
class EdgePlan:
    """An edge drawn by the seed; see ``document`` for the units."""

    name: str
    speed: float
    memory_mb: int
    latency: float
    bandwidth: float
    loss: float


@dataclass(frozen=True)
class Change:
    """A change to ``target``, ``at`` seconds from the start.

    Attributes:
        action: ``link`` cuts or restores the link, ``latency`` sets it, ``process`` kills or starts a process,
            ``restart`` kills a worker so that its agent starts it again, ``disk`` fills or frees the disk, ``clock``
            sets the clock ahead by ``amount`` seconds, ``behaviour`` corrupts the edge's updates, ``pace`` makes its
            training take ``amount`` times as long.
        on: False for the end of the disturbance.
    """

    at: float
    action: Action
    target: str
    on: bool = True
    amount: float = 0.0
    behaviour: Behaviour | None = None


@dataclass(frozen=True)
class Timeline:
    """All changes in their order, and the outages of each edge's link (start, end) for charts."""

    changes: tuple[Change, ...]
    outages: Mapping[str, Sequence[Span]]


def draw_edges(scenario: Scenario, seed: int | None = None) -> list[EdgePlan]:
    """Draw the edges, each from a seed of its own, so that an additional edge changes no other."""
    seed = scenario.seed if seed is None else seed
    found = []
    for group in scenario.edges:
        for name in group.names:
            uniform = seeded(f"edge/{seed}/{name}").uniform
            links = scenario.links
            speed, latency, bandwidth, loss = (
                draw_from(span, uniform) for span in (group.speed, links.latency, links.bandwidth, links.loss)
            )
            found.append(EdgePlan(name, round(speed, 4), group.memory, round(latency, 6), round(bandwidth), loss))
    return found


def draw_timeline(scenario: Scenario, seed: int | None = None) -> Timeline:
    """Draw the timeline. It ends with the scenario's duration: longer disturbances are not undone."""
    seed = scenario.seed if seed is None else seed
    end = scenario.duration
    down: dict[str, list[Span]] = {}
    for number, outage in enumerate(scenario.links.outages):
        for edge in select_edges(outage.edges, scenario, f"outages/{seed}/{number}"):
            rng_seed = f"outages/{seed}/{number}/{edge}"
            down.setdefault(edge, []).extend(_outages(outage, end, rng_seed))
    spans: dict[tuple[Action, str, float, Behaviour | None], list[Span]] = {}
    changes: list[Change] = []
    for number, fault in enumerate(scenario.faults):
        until = min(end, fault.at + fault.lasting) if fault.lasting is not None else end
        for target in _targets(fault, scenario, f"faults/{seed}/{number}"):
            if fault.kind == "partition":
                down.setdefault(target, []).append((fault.at, until))
            elif fault.kind == "crash-worker":
                changes.append(Change(_rounded(fault.at), "restart", target))
            else:
                key = (_ACTIONS[fault.kind], target, _amount(fault), fault.behaviour)
                spans.setdefault(key, []).append((fault.at, until))
    outages = {edge: _union(each) for edge, each in sorted(down.items()) if each}
    for edge, each in outages.items():
        changes += _begin_and_end("link", edge, each, end)
    for (action, target, amount, behaviour), each in spans.items():
        changes += _begin_and_end(action, target, _union(each), end, amount, behaviour)
    return Timeline(tuple(sorted(changes, key=_order)), outages)


def select_edges(edges: EdgeSelection, scenario: Scenario, seed: str) -> list[str]:
    """Return the selected edges in the scenario's order; draw them if the selection is a number or a share."""
    names = scenario.edge_names
    if edges == "all":
        return names
    if isinstance(edges, list):
        groups = {group.name: group.names for group in scenario.edges}
        wanted = dict.fromkeys(name for each in edges for name in groups.get(each, [each]))
        known = dict.fromkeys(names)
        return [name for name in names if name in wanted] + [name for name in wanted if name not in known]
    number = max(1, round(edges * len(names))) if edges < 1 else int(edges)
    drawn = dict.fromkeys(seeded(seed).sample(names, number))
    return [name for name in names if name in drawn]


_ACTIONS: Mapping[str, Action] = {
    "crash-agent": "process", "crash-coordinator": "process", "full-disk": "disk", "wrong-clock": "clock",
    "slow-link": "latency", "byzantine": "behaviour", "straggler": "pace",
}  # fmt: skip
_DEFAULTS = {"scale": 10.0, "sign-flip": 1.0}


def _amount(fault: Fault) -> float:
    return fault.amount if fault.amount is not None else _DEFAULTS.get(fault.behaviour or "", 0.0)


def _targets(fault: Fault, scenario: Scenario, seed: str) -> list[str]:
    return [COORDINATOR] if fault.targets is None else select_edges(fault.targets, scenario, seed)


def _outages(outage: Outage, end: float, seed: str) -> Iterator[Span]:
    if outage.mean_up is None or outage.mean_down is None:
        at, lasting = outage.at or 0.0, outage.lasting or 0.0
        while at < end:
            yield at, min(at + lasting, end)
            if outage.every is None:
                return
            at += outage.every
    else:
        rng = seeded(seed)
        at = rng.expovariate(1 / outage.mean_up)
        while at < end:
            until = at + rng.expovariate(1 / outage.mean_down)
            yield at, min(until, end)
            at = until + rng.expovariate(1 / outage.mean_up)


def _union(spans: Iterable[Span]) -> list[Span]:
    """Merge spans that overlap or touch."""
    found: list[Span] = []
    for start, until in sorted((_rounded(one), _rounded(other)) for one, other in spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], until))
        elif until > start:
            found.append((start, until))
    return found


def _begin_and_end(
    action: Action, target: str, spans: Sequence[Span], end: float, amount: float = 0.0,
    behaviour: Behaviour | None = None,
) -> Iterator[Change]:  # fmt: skip
    for start, until in spans:
        yield Change(start, action, target, True, amount, behaviour)
        if until < end:
            yield Change(until, action, target, False, amount, behaviour)


def _order(change: Change) -> tuple[float, bool, str, str, float, str]:
    """Sort ends before beginnings of the same moment."""
    return change.at, change.on, change.action, change.target, change.amount, change.behaviour or ""


def _rounded(at: float) -> float:
    """Round to milliseconds, because the last bits of a logarithm depend on the C library."""
    return round(at, 3)
