"""What a component said in a replay, compared with what was recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from heliograph.core.errors import Refused
from heliograph.simulations.check.compare import Difference, Said, compare
from heliograph.simulations.check.material import Material
from heliograph.simulations.check.normal import Told, concerns, normal

if TYPE_CHECKING:
    from heliograph.simulations.check.material import Heard


@dataclass
class Run:
    """What a component said in a replay, beside what it had said when the trace was recorded.

    Attributes:
        published, recorded: (topic, payload), without times, generations and what else differs from run to run;
            equal where there is no difference.
        inputs, fed: how many recorded messages are the component's inputs, and how many of them it was given.
        missing: what it would have needed and the trace does not hold.
        notes: what was passed over.
    """

    component: str
    published: list[Told] = field(default_factory=list)
    recorded: list[Told] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    inputs: int = 0
    fed: int = 0

    @property
    def equal(self) -> bool:
        """Whether it said what was recorded, and was given all that it had been given then."""
        return not self.differences and self.complete

    @property
    def complete(self) -> bool:
        return self.fed == self.inputs and not self.missing

    def add(self, other: Run) -> None:
        """Another one's findings."""
        for name in ("published", "recorded", "differences", "notes", "missing"):
            own = getattr(self, name)
            own += [each for each in getattr(other, name) if name != "missing" or each not in own]
        self.inputs += other.inputs
        self.fed += other.fed


def recorded_of(messages: list[Heard], job: str = "") -> list[Said]:
    """Recorded messages as they are compared."""
    return [
        Said(each.address, normal(each.topic, each.data, job), each.at, each.retained)
        for each in messages if concerns(each.topic, dict(each.params), job)
    ]  # fmt: skip


def compared(component: str, recorded: list[Said], published: list[Said], end: float) -> Run:
    """A run with what differs; its inputs are still to be counted."""
    found = compare(recorded, published, end)
    return Run(component, found.published, found.recorded, found.differences, found.notes)


def nothing_to_feed(material: Material, component: str, needed: str) -> Refused:
    """The trace is of something else."""
    return Refused(
        "no-input", topic=str(material.path), expected=f"inputs of the {component}: {needed}", got="none",
        hint="Record with --topics '#', and begin before the job is created.",
    )  # fmt: skip
