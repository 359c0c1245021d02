"""The strategies by name, with their parameters; and the choice of a round's participants by one of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from heliograph.bus.contract.resources import FederatedTask, Participants, ParticipantSelection
from heliograph.coordinator.api.parameters import NamedChoice, check_offered, values_of
from heliograph.coordinator.features.federated.participation import oort, power_of_choice, resources
from heliograph.coordinator.features.federated.participation.candidates import Candidate, Choice
from heliograph.coordinator.features.federated.participation.fairness import due_now, shortfall
from heliograph.core.errors import Refused
from heliograph.core.world import Random

PLACE = "spec.participants.selection"


class Choose(Protocol):
    """Return at most ``number`` of the candidates; the same ones for the same seed, whatever their order."""

    def __call__(
        self, candidates: Sequence[Candidate], number: int, round: int, random: Random, parameters: Any
    ) -> Choice: ...


@dataclass(frozen=True)
class Selector:
    """A strategy.

    Attributes:
        remembers: whether it compares what rounds have told of edges.
    """

    parameters: type[BaseModel]
    choose: Choose
    remembers: bool = False


class NoParameters(BaseModel):
    """The parameters of a strategy that has none."""


def _at_random(
    candidates: Sequence[Candidate], number: int, round: int, random: Random, parameters: NoParameters
) -> Choice:
    return Choice(random.sample(sorted(each.name for each in candidates), number))


STRATEGIES: Mapping[str, Selector] = {
    "random": Selector(NoParameters, _at_random),
    "resources": Selector(resources.ResourcesParameters, resources.choose),
    "power-of-choice": Selector(power_of_choice.PowerOfChoiceParameters, power_of_choice.choose, remembers=True),
    "oort": Selector(oort.OortParameters, oort.choose, remembers=True),
}


def needs_memory(task: FederatedTask) -> bool:
    """Return whether the task's rounds have to tell of each edge."""
    participants = task.spec.participants
    selection = participants.selection if participants is not None else None
    if selection is None:
        return False
    return selection.at_least_every is not None or STRATEGIES[selection.strategy].remembers


def number_of(participants: Participants | None, edges: int) -> int | None:
    """Return how many edges take part in a round; None for all.

    Args:
        edges: number of edges that have a training worker. Of a fraction C of K edges it is max(C K, 1), rounded down,
            as in McMahan et al., 2017 (https://arxiv.org/abs/1602.05629).
    """
    if participants is None or participants.all:
        return None
    if participants.fraction is not None:
        return max(1, int(Decimal(str(participants.fraction)) * edges))  # 0.29 x 100 is 28.999… as floats
    return participants.count


def selected(
    selection: ParticipantSelection, candidates: Sequence[Candidate], number: int, round: int, random: Random
) -> Choice:
    """Return the participants of a round, sorted: those that are due by ``atLeastEvery``, then those that the strategy
    chooses among the others."""
    selector = STRATEGIES[selection.strategy]
    floor, due, lacking = selection.at_least_every, [], ""
    if floor is not None:
        due, lacking = due_now(candidates, number, round, floor), shortfall(len(candidates), number, floor)
    asked = set(due)
    others = [each for each in candidates if each.name not in asked]
    wanted = min(number - len(due), len(others))
    parameters = selector.parameters.model_validate(values_of(selection.parameters))
    choice = selector.choose(others, wanted, round, random, parameters) if wanted else Choice([])
    return Choice(sorted([*due, *choice.edges]), "; ".join(filter(None, (lacking, choice.lacking))))


def check_selection(task: FederatedTask, topic: str) -> None:
    """Raise Refused for a parameter that the task's strategy does not have, or a value that it does not take."""
    participants = task.spec.participants
    selection = participants.selection if participants is not None else None
    if selection is None:
        return
    schemas = {name: each.parameters.model_json_schema() for name, each in STRATEGIES.items()}
    place = f"{PLACE}.parameters"
    given = NamedChoice("strategy", selection.strategy, f"{PLACE}.strategy", selection.parameters, place)
    check_offered(given, schemas, topic)
    try:
        STRATEGIES[selection.strategy].parameters.model_validate(values_of(selection.parameters))
    except ValidationError as error:
        first = error.errors()[0]
        number = next((n for n, each in enumerate(selection.parameters) if each.key in first["loc"]), 0)
        raise Refused("invalid", topic=topic, field=f"{place}[{number}].value", expected=first["msg"],
                      got=first["input"]) from None  # fmt: skip
