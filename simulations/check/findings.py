"""A component's messages in a replay, compared with the recorded ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from heliograph.core.errors import Refused
from heliograph.simulations.check.comparable import ComparedMessage, comparable, concerns
from heliograph.simulations.check.compare import Difference, TimedMessage, compare
from heliograph.simulations.check.loaded_trace import LoadedTrace

if TYPE_CHECKING:
    from heliograph.simulations.check.loaded_trace import RecordedMessage


@dataclass
class ReplayRun:
    """A component's messages in a replay beside its recorded messages.

    Attributes:
        published, recorded: topics and payloads, without times, generations and other parts that differ in each run;
            equal lists if there is no difference.
        inputs, fed: number of recorded inputs of the component, and number of inputs fed to it.
        missing: inputs that the component needs and the trace lacks.
        notes: skipped values.
        signatures: number of the trace's messages that a key has signed, by the beginning of the public key.
    """

    component: str
    published: list[ComparedMessage] = field(default_factory=list)
    recorded: list[ComparedMessage] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    inputs: int = 0
    fed: int = 0
    signatures: Mapping[str, int] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether the messages are equal and the component was fed all its inputs."""
        return not self.differences and self.complete

    @property
    def complete(self) -> bool:
        return self.fed == self.inputs and not self.missing

    def add(self, other: ReplayRun) -> None:
        """Add another run's findings."""
        for name in ("published", "recorded", "differences", "notes", "missing"):
            own = getattr(self, name)
            own += [each for each in getattr(other, name) if name != "missing" or each not in own]
        self.inputs += other.inputs
        self.fed += other.fed


def recorded_of(messages: list[RecordedMessage], job: str = "") -> list[TimedMessage]:
    """Return recorded messages in the form that is compared."""
    return [
        TimedMessage(each.address, comparable(each.topic, each.data, job), each.at, each.retained)
        for each in messages if concerns(each.topic, dict(each.params), job)
    ]  # fmt: skip


def compare_messages(
    component: str, recorded: list[TimedMessage], published: list[TimedMessage], end: float
) -> ReplayRun:
    """Return a run with its differences; the caller counts its inputs."""
    found = compare(recorded, published, end)
    return ReplayRun(component, found.published, found.recorded, found.differences, found.notes)


def nothing_to_feed(trace: LoadedTrace, component: str, needed: str) -> Refused:
    """Return the refusal of a trace without inputs for the component."""
    return Refused(
        "no-input", topic=str(trace.path), expected=f"inputs of the {component}: {needed}", got="none",
        hint="Record with --topics '#', and start before the job is created.",
    )  # fmt: skip
