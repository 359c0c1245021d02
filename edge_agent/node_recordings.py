"""The recordings of a node that has none yet: what makes them is loaded with the first one. Few nodes have any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.bus.contract.payloads import Desired
from heliograph.core.tasks import Flag

if TYPE_CHECKING:
    from heliograph.edge_agent.recording.recorder import Recorder


class NodeRecordings:
    """What the agent asks of its recordings; ``Recorder`` answers as soon as a document, or the disk, has one.

    Args:
        directory: where they lie.
        make: returns the node's ``Recorder``.
    """

    def __init__(self, directory: Path, make: Callable[[], Recorder]) -> None:
        self._directory = directory
        self._make = make
        self._made = Flag()
        self._recorder: Recorder | None = None

    def follow(self, desired: Desired, is_present: bool) -> None:
        """Record what the desired document asks for.

        Args:
            is_present: whether the document is the cloud's present one: then what it does not name is deleted.
        """
        wanted = {name: spec.telemetry for name, spec in desired.datasets.items() if spec.telemetry is not None}
        if self._recorder is None and (wanted or self._directory.is_dir()):
            self._recorder = self._make()
            self._made.set()
        if self._recorder is not None:
            self._recorder.follow(wanted, is_present)

    @property
    def recorded_through(self) -> int | None:
        """The number of the journal's bulk lane up to which all is recorded; None where nothing is to be."""
        return self._recorder.recorded_through if self._recorder is not None else None

    def stays(self, address: str) -> bool:
        """Return whether the events of an address are not for the cloud."""
        return self._recorder is not None and self._recorder.stays(address)

    async def run(self) -> None:
        """Wait for the first recording; then record until cancelled."""
        await self._made.wait()
        assert self._recorder is not None
        await self._recorder.run()
