"""Drawing a plan from a seed. Pure: the same on every machine."""

from __future__ import annotations

import random  # noqa: TID251 only its type: the generator is seeded
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from heliograph.core.names import CLOUD
from heliograph.core.world import seeded
from heliograph.simulations.fuzz.draw_learning import draw_learning
from heliograph.simulations.fuzz.plan import (
    BY_DEVICES,
    BY_ROGUES,
    COORDINATOR,
    DOOR,
    OF_LEARNING,
    OF_ROUNDS,
    Edge,
    Fault,
    Hostile,
    HostileKind,
    Job,
    Kind,
    Plan,
)

FAULT_WINDOW = 20.0
"""Seconds in which faults begin."""
REST = 1.5
"""Seconds without faults on a target's part after a fault."""


@dataclass(frozen=True)
class _Shape:
    """The distribution of a kind of faults."""

    where: Literal["edges", "nodes", "clocks", "devices", "coordinator", "streams"]
    shortest: float
    longest: float
    amounts: tuple[float, float] = (0.0, 0.0)
    steps: int = 0
    weight: float = 1.0


_SHAPES: dict[Kind, _Shape] = {
    "crash-coordinator": _Shape("coordinator", 0.1, 4.0, steps=300),
    "crash-agent": _Shape("nodes", 0.1, 4.0, steps=300, weight=2.0),
    "crash-worker": _Shape("nodes", 0.0, 0.0, (0.0, 3.0), steps=60, weight=2.0),
    "restart-node-broker": _Shape("edges", 0.05, 3.0),
    "restart-device": _Shape("devices", 0.05, 2.0),
    "cut": _Shape("nodes", 0.1, 8.0),
    "reset": _Shape("nodes", 0.0, 0.0),
    "slow": _Shape("nodes", 0.5, 6.0, (0.1, 1.5)),
    "drop": _Shape("nodes", 0.5, 5.0, (0.2, 1.0)),
    "overtake": _Shape("nodes", 1.0, 8.0, (0.2, 0.9), weight=1.5),
    "overtake-on-node": _Shape("edges", 0.5, 5.0, (0.2, 0.9)),
    "repeat": _Shape("streams", 2.0, 15.0, (0.2, 0.8), weight=2.0),
    "full-disk": _Shape("edges", 0.3, 4.0),
    "wrong-clock": _Shape("clocks", 0.5, 8.0, (-3600.0, 3600.0)),
}


def draw(seed: int | str) -> Plan:
    """Draw a cluster of 2 to 5 edges, one or two federated jobs, up to twenty faults, and up to six hostile acts; for
    a share of the seeds learning jobs too."""
    rng = seeded(f"fuzz/{seed}")
    edges = tuple(
        Edge(name=f"edge-{number}", speed=round(rng.uniform(0.5, 3.0), 2), latency=round(rng.uniform(0.001, 0.1), 3),
             every=rng.choice((0.0, 0.2, 0.5, 1.0)))
        for number in range(1, rng.randint(2, 5) + 1)
    )  # fmt: skip
    jobs = tuple(_job(rng, number, len(edges)) for number in range(1, rng.randint(1, 2) + 1))
    faults, disk_seconds = _faults(rng, edges), rng.choice((0.0, 0.001, 0.01, 0.03))
    # drawn apart, so that hostile acts and learning jobs change nothing else of a seed's plan
    rogues, hostiles = _hostiles(seeded(f"hostile/{seed}"), edges)
    apart = seeded(f"learning/{seed}")
    learning, pairs = draw_learning(apart, [each.name for each in edges])
    repeats = _repeats(apart) if learning else ()
    return Plan(seed=str(seed), edges=edges, jobs=jobs, learning=learning, pairs=pairs, faults=(*faults, *repeats),
                rogues=rogues, hostiles=hostiles, disk_seconds=disk_seconds)  # fmt: skip


def _repeats(rng: random.Random) -> tuple[Fault, ...]:
    """Draw streams of learning whose messages come twice for a while."""
    shape = _SHAPES["repeat"]
    chosen = [each for each in OF_LEARNING if rng.random() < 0.2]
    return tuple(
        Fault(kind="repeat", target=each.stream_name, at=round(rng.uniform(0.0, FAULT_WINDOW), 2),
              duration=round(rng.uniform(shape.shortest, shape.longest), 2),
              amount=round(rng.uniform(*shape.amounts), 2))
        for each in chosen
    )  # fmt: skip


def _hostiles(rng: random.Random, edges: tuple[Edge, ...]) -> tuple[tuple[str, ...], tuple[Hostile, ...]]:
    """Draw hostile edges and acts for two of three plans."""
    if rng.random() < 1 / 3:
        return (), ()
    rogues = tuple(f"rogue-{number}" for number in range(1, rng.choice((0, 1, 1, 2)) + 1))
    nodes = tuple(each.name for each in edges)
    places: dict[HostileKind, Sequence[str]] = {
        **dict.fromkeys(BY_ROGUES, rogues), **dict.fromkeys(BY_DEVICES, nodes), "bad-requests": (DOOR,),
    }  # fmt: skip
    found: list[Hostile] = []
    for number in range(rng.randint(1, 6)):
        kind = rng.choice([each for each in places if places[each]])
        flood = kind == "flooding-device"
        act = Hostile(
            kind=kind, target=rng.choice(places[kind]), at=round(rng.uniform(0.0, FAULT_WINDOW), 2),
            count=rng.choice((200, 500)) if flood else rng.randint(3, 30),
            every=0.0 if flood else rng.choice((0.05, 0.2, 0.5)), number=number,
        )  # fmt: skip
        found.append(act)
    return rogues, tuple(sorted(found, key=lambda each: each.at))


def _job(rng: random.Random, number: int, edges: int) -> Job:
    participants = rng.choice((None, None, rng.randint(1, edges)))
    quorum = rng.choice((None, None, rng.randint(1, participants or edges)))
    return Job(
        name=f"{rng.choice(('tiny', 'tiny', 'blob'))}-{number}", at=round(rng.uniform(0.0, 8.0), 2),
        rounds=rng.randint(2, 4), deadline=rng.choice((3.0, 6.0, 15.0)), quorum=quorum, participants=participants,
    )  # fmt: skip


def _faults(rng: random.Random, edges: tuple[Edge, ...]) -> tuple[Fault, ...]:
    targets = {
        "edges": [each.name for each in edges],
        "nodes": [CLOUD, *(each.name for each in edges)],
        "clocks": [COORDINATOR, CLOUD, *(each.name for each in edges)],
        "devices": [each.name for each in edges if each.every],
        "coordinator": [COORDINATOR],
        "streams": [OF_ROUNDS[0].stream_name, *(each.stream_name for each in OF_ROUNDS)],
    }
    # not every plan has every kind: with all faults at once, rare states are never reached
    kinds = rng.sample([*_SHAPES], rng.randint(2, len(_SHAPES)))
    found: list[Fault] = []
    for _ in range(rng.randint(1, 20)):
        kind = rng.choices(kinds, [_SHAPES[each].weight for each in kinds])[0]
        shape = _SHAPES[kind]
        if not targets[shape.where]:
            continue
        duration, amount = rng.uniform(shape.shortest, shape.longest), rng.uniform(*shape.amounts)
        fault = Fault(
            kind=kind, target=rng.choice(targets[shape.where]), at=round(rng.uniform(0.0, FAULT_WINDOW), 2),
            duration=round(duration, 2), amount=round(amount) if shape.amounts[1] > 2 else round(amount, 2),
            steps=rng.randint(0, shape.steps),
        )  # fmt: skip
        found.append(fault)
    kept: list[Fault] = []
    free: dict[tuple[str, str], float] = {}
    for fault in sorted(found, key=lambda each: (each.at, each.kind, each.target)):
        if fault.at >= free.get(fault.part, 0.0):
            kept.append(fault)
            free[fault.part] = fault.end + REST
    return tuple(kept)
