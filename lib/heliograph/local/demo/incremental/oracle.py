"""The labeller of the demo: it knows every digit, and adds the classes that the label schema lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.label_client import Labeller
from heliograph.local.demo.incremental import documents
from heliograph.local.demo.incremental.stream import KNOWN, key_of

LOOK_EVERY = 0.1
AT_ONCE = 16


class Oracle:
    """Labels the hard samples as they come.

    Attributes:
        labels: the images that it has labelled, in order, with their digits.
    """

    def __init__(
        self, client: AsyncClient, truth: Mapping[bytes, int], note: Callable[[str], None], world: World
    ) -> None:
        self.labels: list[tuple[bytes, int]] = []
        self._client = client
        self._truth = truth
        self._note = note
        self._world = world
        self._classes = KNOWN

    async def run(self) -> None:
        """Label until cancelled."""
        async with Labeller(self._client, documents.NAME, "oracle", "oracle") as labeller:
            while True:
                for task in await labeller.claim(AT_ONCE):
                    with TensorFile(task.task.data.inline or b"", "sample") as file:
                        key = key_of(file.numpy("x"))
                    digit = self._truth.get(key)
                    if digit is None:
                        await labeller.skip(task)
                        continue
                    if digit >= self._classes:
                        await self._add_classes(digit)
                    await labeller.submit(task, str(digit))
                    self.labels.append((key, digit))
                await self._world.sleep(LOOK_EVERY)

    async def _add_classes(self, digit: int) -> None:
        self._note(f"a labeller meets a {digit}, which is no class yet: the label schema gets the digits 5 to 9")
        self._classes = 10
        try:
            await self._client.labels.update(documents.queue(10, 2))
        except Refused as error:  # somebody else has changed it
            self._note(str(error))
