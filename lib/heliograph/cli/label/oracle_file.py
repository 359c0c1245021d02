"""The labels of a file, given to the tasks of a queue that it knows."""

from __future__ import annotations

from pathlib import Path

from heliograph.bus.contract.resources import LabelQueue
from heliograph.cli.printing.output import say
from heliograph.client import AsyncClient
from heliograph.label_client import Labeller
from heliograph.labelling.oracle import read_oracle


async def label_from_file(client: AsyncClient, queue: str, name: str, file: Path, follow: bool) -> None:
    """Label what the file knows, and say how much that was; with ``follow`` go on with further samples.

    Raises Refused, naming file and line, before anything is labelled.
    """
    schema = LabelQueue.model_validate(await client.labels.get(queue), extra="ignore").spec.label_schema
    known = read_oracle(file, schema)
    say(f"{file}: labels of {len(known)} samples")
    given = 0
    async with Labeller(client, queue, name or "oracle", "oracle") as labeller:
        async for task in labeller.tasks(follow=follow, ahead=16):
            if (result := known.get(task.task.task)) is None:
                await labeller.skip(task, f"not in {file.name}")
            else:
                await labeller.submit(task, result)
                given += 1
    say(f"labels/{queue}: {given} labelled by {file}")
