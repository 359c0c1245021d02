"""Draw the participants of a round among a task's edges. Pure."""

from __future__ import annotations

from heliograph.bus.contract.resources import FederatedTask
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated.participation.candidates import Candidate, Choice
from heliograph.coordinator.features.federated.participation.memory import NOTHING, Memory
from heliograph.coordinator.features.federated.participation.strategies import number_of, selected
from heliograph.coordinator.features.federated.resuming import seed_of
from heliograph.coordinator.features.federated.selection import ready_of
from heliograph.core.world import seeded

STARTS, STARTS_GROW = 64, 8
"""Edges asked for initial weights at once after an edge has failed at it: this many, or this many times those that
failed, so that ten thousand edges that all fail end in a few steps, and no fleet sends all its beginnings."""
ASK_AGAIN = 5
"""Every so many rounds edges are asked again whose script has failed several times in an earlier round: whatever it was
may have passed, and a script that fails anew costs the others some seconds."""


def draw(
    task: FederatedTask, round: int, view: View, several: bool = False, memory: Memory = NOTHING
) -> list[str]:
    """Return the edges that ``chosen`` gives."""
    return chosen(task, round, view, several, memory).edges


def chosen(
    task: FederatedTask, round: int, view: View, several: bool = False, memory: Memory = NOTHING
) -> Choice:
    """Return the participants of a round: the edges that can work now, or a seeded choice where the task wants fewer.

    Round 0 asks one edge for the initial weights, and several once an edge has failed at it.

    Args:
        several: ask several in round 0 in any case.
        memory: what closed rounds have told of each edge.
    """
    uid, left = task.metadata.uid, set(task.status.left)
    assigned = sorted(edge for edge in task.status.assignments.values() if edge not in left)
    working = view.working(uid)
    ready = ready_of(uid, view, working)
    if round and round % ASK_AGAIN == 0 and (resting := view.resting(uid)):
        ready = ready | resting
    pool = [edge for edge in assigned if edge in ready] or [edge for edge in assigned if edge in working] or assigned
    if round == 0:
        pool = sorted(pool, key=lambda edge: (task.is_foreign(edge), edge))  # the model's shape is best known to agents
        failed = len(view.troubles(uid).keys() & set(assigned))
        return Choice(pool[: max(STARTS, STARTS_GROW * failed)] if several or failed else pool[:1])
    participants = task.spec.participants
    selection = participants.selection if participants is not None else None
    number = number_of(participants, len(assigned))
    if selection is None and (number is None or number >= len(pool)):
        return Choice(pool)
    number, random = min(number or len(pool), len(pool)), seeded(f"{seed_of(task)}/{round}")
    if selection is None:
        return Choice(sorted(random.sample(pool, number)))
    candidates = [_candidate(task, edge, view, memory) for edge in pool]
    return selected(selection, candidates, number, round, random)


def _candidate(task: FederatedTask, edge: str, view: View, memory: Memory) -> Candidate:
    there, samples = view.edges.get(edge), (task.status.pinned_samples or {}).get(edge, 0)
    node = there.report.node if there is not None and there.report is not None else None
    return Candidate(edge, samples, memory.of(edge), node)
