"""``heliograph run``: train the user's own script federated over edges on this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heliograph.bus.contract.resources.base import Scalar
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError, first_error
from heliograph.core.names import CLOUD, is_label
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent.confinement.site_policy import OPEN
from heliograph.edge_agent.datasets import index
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.local.cluster import LocalCluster
from heliograph.local.display import Display
from heliograph.local.follow_job import LEADER_TIMEOUT, failure, follow_job, wait_for_offers, wait_for_scripts
from heliograph.local.preflight import PATIENCE, Check, Checked, check, check_syntax
from heliograph.local.printed_lines import PrintedLines
from heliograph.local.probe import Spec, Verdict
from heliograph.local.run_data import split_for_run
from heliograph.local.run_folder import RunFolder, copy
from heliograph.local.run_record import FINISH, RunRecord
from heliograph.local.split import Split
from heliograph.local.split_file import Parts
from heliograph.tracking.targets import Targets
from heliograph.tracking.tracker import Tracker

CHECK_PATIENCE = 300.0
"""Seconds that ``run --check`` waits for the script, of which nothing else waits."""
TRACKED = 60.0
"""Seconds in which a tracker still writes once the job has ended."""


@dataclass(frozen=True)
class Options:
    """The options of ``heliograph run``.

    Attributes:
        directory: a directory for the processes' state, deleted by the caller.
        test: a file of test samples, or the share of ``data`` to keep for the test; the script's ``evaluate`` measures
            each global model on them, in the cloud.
        arguments: the script's own arguments.
        parameters: the job's parameters, which ``heliograph.parameters()`` returns in the script.
        patience: seconds to wait for the check of the script; 0 skips it.
        verbose: show what the workers print.
        header: whether the first line of a csv names its columns; None: its cells decide.
        targets: where the rounds are tracked, too.
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
    arguments: tuple[str, ...] = ()
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    patience: float = PATIENCE
    verbose: bool = False
    header: Header | None = None
    targets: Targets = field(default_factory=Targets)


@dataclass
class Outcome:
    """The outcome of a run.

    Attributes:
        document: the job's last document.
        failure: why the job has not succeeded; empty if it has.
        interrupted: whether the user has stopped it.
        model: file of the last global model; None if there is none.
        model_round: the round that closed with it.
        best: what the best model's evaluation was, in words; empty without evaluations.
        edges: lines about what became of the edges' updates.
        uncounted: the edges without any counted update.
        printed: the last lines of one worker, each with its component.
        tracked: where the rounds were tracked.
    """

    document: dict[str, Any] = field(default_factory=dict)
    failure: str = ""
    interrupted: bool = False
    model: Path | None = None
    model_round: int = 0
    best: str = ""
    edges: list[str] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    tracked: list[str] = field(default_factory=list)


async def run(options: Options, folder: RunFolder, target: Path, display: Display, world: World) -> Outcome:
    """Run the script as a job, keep what it makes in ``folder``, and stop all processes.

    The last global model is copied to ``target`` however the job ends: also where it fails or is interrupted.

    Raise ScriptRefused if the script cannot begin, HeliographError if the data or the cluster are unfit.
    """
    script = options.script.resolve()
    name = job_name(script)
    edges = [f"edge-{number + 1}" for number in range(options.edges)]
    writers = await world.in_thread(options.targets.writers)
    parts = await prepare(options, edges, display, world)
    datasets: dict[str, dict[str, Path]] = {edge: {name: file} for edge, file in parts.files.items()}
    if parts.test is not None:
        datasets[CLOUD] = {"test": parts.test}
    display.doing(f"starting broker, coordinator and {len(edges) + 1} agents, and checking {options.script.name}")
    cluster = LocalCluster(
        options.directory / "cluster", edges, datasets=datasets, code=(script.parent,), world=world,
        headers=dict.fromkeys((name, "test"), options.header) if options.header else None, outputs=folder.edges,
        log=folder.log, supervise=lambda line: display.note(line, good=False), site_policy=OPEN,
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        checked = await _start_checked(stack, cluster, options, parts, world)
        for line in remarks(options, checked):
            display.note(line, good=False)
        client = await stack.enter_async_context(AsyncClient(cluster.server, leader_timeout=LEADER_TIMEOUT))
        await wait_for_offers(client, datasets, display.doing)
        await client.models.create({"kind": "Model", "metadata": {"name": name}})
        display.began(f"{name} · FedAvg", parts.samples or dict.fromkeys(edges, 0))
        printed = PrintedLines(client, display.printed if options.verbose else None)
        record = RunRecord(folder, name, edges, parts.test is not None, client, display, world)
        following = [asyncio.create_task(printed.follow()), asyncio.create_task(record.follow())]
        stack.push_async_callback(cancel_and_wait, *following)
        await client.jobs.create(_task(name, script, edges, options, parts))
        tracker = Tracker(client, name, writers, world, display.note)
        tracking = asyncio.create_task(tracker.run()) if writers else None
        if tracking is not None:
            stack.push_async_callback(cancel_and_wait, tracking)
        outcome = await _followed(client, name, display, record, printed)
        outcome.printed = printed.of_last_worker()
        if tracking is not None:
            # a job that was interrupted has no end that the tracker would see
            within = FINISH if outcome.interrupted else TRACKED
            outcome.tracked = await _tracked(tracker, tracking, display, within)
    if record.models.last_round:
        outcome.model, outcome.model_round = _delivered(folder.model, target, display), record.models.last_round
    if record.models.best is not None:
        metric, value = record.models.best
        outcome.best = f"round {record.models.best_round}, {metric} {value:.4g}"
    outcome.edges, outcome.uncounted = record.counts.lines(), record.counts.uncounted
    return outcome


async def _tracked(tracker: Tracker, tracking: asyncio.Task[str], display: Display, within: float) -> list[str]:
    """Return where the rounds are tracked, once all are. What fails is said: the models are there all the same."""
    if not tracking.done() and tracker.runs:
        display.doing(f"writing the last rounds to {' and '.join(each.place for each in tracker.runs)}")
    try:
        async with asyncio.timeout(within):
            await asyncio.shield(tracking)
    except TimeoutError:
        display.note(f"not all rounds are tracked: after {within:g} s some are not written", good=False)
    except HeliographError as error:
        display.note(f"not all rounds are tracked: {error}", good=False)
    return [each.place for each in tracker.runs]


def _delivered(model: Path, target: Path, display: Display) -> Path:
    """Copy the last model to where the user wants it, and return that file; where that fails by now, the folder's."""
    try:
        return copy(model, target)
    except OSError as error:
        display.note(f"{target} cannot be written: {error.strerror or error}", good=False)
        return model


async def check_only(options: Options, display: Display, world: World) -> tuple[Parts, Checked]:
    """Split the data and check the script, without a cluster. Raise as ``run`` does."""
    parts = await prepare(options, [f"edge-{number + 1}" for number in range(options.edges)], display, world)
    display.doing(f"checking {options.script.name}")
    return parts, await check(_what_to_check(options, parts), world, CHECK_PATIENCE)


async def prepare(options: Options, edges: list[str], display: Display, world: World) -> Parts:
    """Check what needs no process, and split the data. Raise HeliographError where script or data are unfit."""
    check_syntax(options.script, str(options.script))
    if options.data is not None:
        display.doing(f"splitting {options.data.name} over {len(edges)} edges")
    parts: Parts = await world.in_thread(_split_data, options, edges, display)
    return parts


def remarks(options: Options, checked: Checked) -> list[str]:
    """Return what a user should know of a script that can begin."""
    if checked.train is None:
        if not options.patience:
            return []
        return [f"{options.script} had not begun its first round after {options.patience:g} s: it goes on unchecked"]
    found = []
    if options.data is not None and not checked.train.dataset_asked:
        found.append(f"{options.script} has not asked for dataset() before its first round: --data {options.data} is "
                     "not used, unless the loop reads it")  # fmt: skip
    if options.test is not None and checked.evaluate is None:
        found.append(f"evaluate= of {options.script} had no result after {options.patience:g} s: it is not checked")
    elif checked.evaluate is not None and not checked.evaluate.metrics:
        found.append(f"evaluate= of {options.script} returned no finite number: the rounds have no test metrics")
    return found


def describe_model(verdict: Verdict) -> str:
    """Return ``4 arrays, 16,906 numbers, 66 kB``."""
    return f"{verdict.arrays} arrays, {verdict.numbers:,} numbers, {verdict.size:,} bytes"


async def _start_checked(
    stack: AsyncExitStack, cluster: LocalCluster, options: Options, parts: Parts, world: World
) -> Checked:
    """Start the cluster and check the script at the same time; stop both where one fails."""
    stack.push_async_callback(cluster.stop)
    starting = asyncio.ensure_future(cluster.start())
    checking = asyncio.ensure_future(_checked(options, parts, world))
    stack.push_async_callback(cancel_and_wait, starting, checking)
    await asyncio.gather(starting, checking)
    return checking.result()


async def _checked(options: Options, parts: Parts, world: World) -> Checked:
    if not options.patience:
        return Checked(None)
    return await check(_what_to_check(options, parts), world, options.patience)


async def _followed(
    client: AsyncClient, name: str, display: Display, record: RunRecord, printed: PrintedLines
) -> Outcome:
    """Follow the job and its scripts to their ends, to an interruption, or until the cluster is lost; write what there
    is either way."""
    document: dict[str, Any] = {}

    def seen(newest: Mapping[str, Any]) -> None:
        document.clear()
        document.update(newest)
        record.document(newest)

    outcome = Outcome()
    try:
        await follow_job(client, name, display, seen)
        outcome.failure = failure(document)
        printed.warnings.clear()  # the job's document has told of those
        await wait_for_scripts(client, display.doing)
        for line in [] if outcome.failure else printed.warnings:
            display.note(line, good=False)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        outcome.interrupted = True
        display.doing("stopping; what is learned so far is being kept")
    except (HeliographError, ExceptionGroup) as error:
        lost = first_error(error)
        if not isinstance(lost, HeliographError):
            raise
        outcome.failure = str(lost)
    outcome.document = document
    await record.finish(document)
    return outcome


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


def _what_to_check(options: Options, parts: Parts) -> Check:
    script = options.script.resolve()
    first = next(iter(parts.files), "edge-1")

    def spec(role: Any, edge: str, data: Path | None) -> Spec:
        samples = index("data", data, header=options.header).samples if data is not None else 0
        return Spec(
            role, str(script), str(script.parent), str(script.parent), edge, list(options.arguments),
            str(data) if data is not None else "", samples, dict(options.parameters),
        )  # fmt: skip

    return Check(
        str(options.script), spec("train", first, parts.files.get(first)), options.directory / "check",
        spec("evaluate", CLOUD, parts.test) if parts.test is not None else None,
        f"--test {options.test}" if options.test is not None else f"the test part of {options.data}",
        {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def _task(name: str, script: Path, edges: list[str], options: Options, parts: Parts) -> dict[str, Any]:
    worker: dict[str, Any] = {"trainScriptBootFile": script.name}
    if options.arguments:
        worker["trainScriptArguments"] = list(options.arguments)
    if options.parameters:
        worker["parameters"] = [{"key": key, "value": value} for key, value in options.parameters.items()]
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
