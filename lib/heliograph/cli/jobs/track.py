"""``track``: the metrics of a job's rounds in TensorBoard or MLflow, while it goes on or afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in
from heliograph.cli.usage import examples, misused

if TYPE_CHECKING:
    from heliograph.client import AsyncClient
    from heliograph.tracking.tracker import Tracker

_TRACK = """Write the rounds of a federated job to TensorBoard or MLflow until it ends.

Metrics of training and test, duration, samples, updates that were counted, late or refused, edge by edge. Begin at any
time, also after the job's end: what is there already is not written again."""

TensorBoardOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write TensorBoard's event files below this directory.")
]
MlflowOption = Annotated[
    str, typer.Option(metavar="URI", help="Write to MLflow: http://HOST:5000, sqlite:///FILE, or a directory.")
]


def register(app: typer.Typer) -> None:
    app.command(
        help=_TRACK,
        epilog=examples(
            "heliograph track jobs/digits --tensorboard runs", "heliograph track digits --mlflow http://mlflow:5000"
        ),
    )(track)


def track(
    resource: Annotated[str, typer.Argument(metavar="jobs/NAME", help="The job; or its name alone.")],
    tensorboard: TensorBoardOption = None,
    mlflow: MlflowOption = "",
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.output import say
    from heliograph.core.world import World
    from heliograph.tracking.targets import Targets
    from heliograph.tracking.tracker import Tracker

    name = label_in(resource, "jobs", "jobs/NAME")
    targets = Targets(tensorboard, mlflow)
    if not targets:
        raise misused("--tensorboard", expected="--tensorboard DIR or --mlflow URI, or both", got="neither")
    world = World()
    writers = targets.writers()

    async def follow(client: AsyncClient) -> tuple[Tracker, str]:
        tracker = Tracker(client, name, writers, world, say)
        return tracker, await tracker.run()

    with about("jobs", name):
        tracker, phase = ask(server, follow)
    say(f"job/{name}: {phase}")
    for each in tracker.runs:
        say(f"{each.rounds} rounds and {each.evaluations} evaluations written: {each.place}")
