"""``heliograph run``: train the user's own script federated over edges on this machine."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import LOG
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.names import CLOUD, is_label
from heliograph.core.world import World
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.local.cluster import LocalCluster
from heliograph.local.display import Display
from heliograph.local.follow_job import failure, follow_job, wait_for_offers
from heliograph.local.run_data import split_for_run
from heliograph.local.split import Split
from heliograph.local.split_file import Parts

MAX_LINES = 60
"""Lines printed by the workers that are kept, to be shown if the job fails."""


@dataclass(frozen=True)
class Options:
    """The options of ``heliograph run``.

    Attributes:
        test: a file of test samples, or the share of ``data`` to keep for the test; the script's ``evaluate`` measures
            each global model on them, in the cloud.
        header: whether the first line of a csv names its columns; None: its cells decide.
    """

    script: Path
    directory: Path
    edges: int = 3
    rounds: int = 10
    data: Path | None = None
    split: Split = field(default_factory=Split)
    label: str = ""
    test: Path | float | None = None
    seed: int = 1
    header: Header | None = None


@dataclass
class Outcome:
    """The outcome of a run.

    Attributes:
        document: the job's last document.
        failure: why the job has not succeeded; empty if it has.
        model: file of the final model.
        printed: the last lines of one worker, each with its component.
    """

    document: dict[str, Any]
    failure: str
    model: Path | None
    printed: list[str] = field(default_factory=list)


async def run(options: Options, target: Path, display: Display, world: World) -> Outcome:
    """Run the script as a job, write the final model to ``target``, and stop all processes.

    Raise HeliographError if the script or the data are missing or unfit.
    """
    script = options.script.resolve()
    if not script.is_file():
        raise HeliographError(f"{options.script}: there is no such script")
    name = job_name(script)
    edges = [f"edge-{number + 1}" for number in range(options.edges)]
    parts = await world.in_thread(_split_data, options, edges, display)
    datasets: dict[str, dict[str, Path]] = {edge: {name: file} for edge, file in parts.files.items()}
    if parts.test is not None:
        datasets[CLOUD] = {"test": parts.test}
    display.doing(f"starting broker, coordinator and {len(edges) + 1} agents")
    cluster = LocalCluster(
        options.directory / "cluster", edges, datasets=datasets, code=(script.parent,), world=world,
        headers=dict.fromkeys((name, "test"), options.header) if options.header else None,
        log=options.directory / "log.txt", supervise=lambda line: display.note(line, good=False),
    )  # fmt: skip
    async with cluster, AsyncClient(cluster.server) as client:
        printed: deque[tuple[str, str]] = deque(maxlen=MAX_LINES)
        listening = asyncio.create_task(_collect_lines(client, printed))
        await wait_for_offers(client, datasets, display.doing)
        await client.models.create({"kind": "Model", "metadata": {"name": name}})
        display.began(f"{name} · FedAvg", parts.samples or dict.fromkeys(edges, 0))
        await client.jobs.create(_task(name, script.name, edges, options, parts))
        document = await follow_job(client, name, display)
        listening.cancel()
        reason = failure(document)
        model = None if reason else await client.download(name, target)
    return Outcome(document, reason, model, _lines_of_last_worker(printed))


def _lines_of_last_worker(printed: deque[tuple[str, str]]) -> list[str]:
    """Return the lines of the worker that printed last: when all workers fail, they fail alike."""
    last = printed[-1][0] if printed else ""
    return [f"{component}: {line}" for component, line in printed if component == last]


def job_name(script: Path) -> str:
    """Return a label made from the script's name."""
    name = "".join(each if each.isalnum() and each.isascii() else "-" for each in script.stem.lower()).strip("-")[:50]
    return name if is_label(name) else "job"


def _split_data(options: Options, edges: list[str], display: Display) -> Parts:
    return split_for_run(
        options.data, options.directory / "data", edges, options.split, seed=options.seed, test=options.test,
        label=options.label, header=options.header, display=display,
        measures="evaluate" in options.script.read_text(errors="replace"),
    )  # fmt: skip


def _task(name: str, boot_file: str, edges: list[str], options: Options, parts: Parts) -> dict[str, Any]:
    worker: dict[str, Any] = {"trainScriptBootFile": boot_file}
    if parts.files:
        worker["dataset"] = {"name": name}
    spec: dict[str, Any] = {
        "aggregationWorker": {"model": {"name": name}},
        "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in edges],
        "rounds": options.rounds,
        "roundDeadlineSeconds": 3600,
    }
    if parts.test is not None:
        spec["evaluationWorker"] = {"dataset": {"name": "test"}}
    return {"kind": "FederatedTask", "metadata": {"name": name}, "spec": spec}


async def _collect_lines(client: AsyncClient, printed: deque[tuple[str, str]]) -> None:
    async with client.bus.subscribe(LOG.pattern.replace("{component}/", "")) as messages:
        async for message in messages:
            try:
                record = LOG.validate(decode(message.body, message.topic).data, message.topic)
            except Refused:
                continue
            if "worker" in record.component:
                printed.append((record.component, record.message))
