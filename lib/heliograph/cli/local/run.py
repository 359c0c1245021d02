"""``run``: train with the user's own script, federated over edges of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from heliograph.cli.exit_codes import INTERRUPTED
from heliograph.cli.jobs.track import MlflowOption, TensorBoardOption
from heliograph.cli.local.clusters import (
    EdgesOption,
    PlainOption,
    RoundsOption,
    SeedOption,
    screen,
    show_curve,
    until_signalled,
)
from heliograph.cli.usage import examples, misused

if TYPE_CHECKING:
    from heliograph.bus.contract.resources.base import Scalar
    from heliograph.local.run_folder import RunFolder
    from heliograph.local.run_script import Options, Outcome

MAX_LINES = 15
"""Lines of a failing script that are shown."""
_RUN = """Train with your own script, federated over edges on this machine.

What stands after -- are the script's own arguments: heliograph run train.py --edges 3 -- --lr 0.1

Before anything starts, the script is run up to its first round, to find mistakes. Ctrl-C ends the run and keeps the
last model."""


def register(app: typer.Typer) -> None:
    app.command(
        help=_RUN,
        epilog=examples("heliograph run train.py --edges 3 --data samples.csv", "heliograph run train.py --check"),
    )(run)


def run(
    script: Annotated[Path, typer.Argument(help="A training script that uses heliograph.FederatedLearning.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="-- ARGUMENTS", help="The script's own arguments.")
    ] = None,
    edges: EdgesOption = 3,
    rounds: RoundsOption = 10,
    data: Annotated[
        Path | None, typer.Option(help="A file or directory, split over the edges: csv, npz, parquet, images, …")
    ] = None,
    split: Annotated[str, typer.Option(help="iid, dirichlet:ALPHA, by-label:N, by-size:E or by-column:NAME.")] = "iid",
    label: Annotated[str, typer.Option(help="The array or column with the classes. Default: y, label, …")] = "",
    header: Annotated[
        Literal["auto", "yes", "no"], typer.Option(help="Whether a csv's first line names its columns.")
    ] = "auto",
    test: Annotated[str, typer.Option(help="Test samples: a file, or a share of --data such as 0.2.")] = "",
    seed: SeedOption = 1,
    parameters: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the job; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File of the model. Default: SCRIPT.safetensors")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of logs, metrics and models. Default: heliograph-runs/SCRIPT-1, -2, …")
    ] = None,
    check: Annotated[
        bool | None, typer.Option("--check/--no-check", help="Check script and data only; or train without a check.")
    ] = None,
    tensorboard: TensorBoardOption = None,
    mlflow: MlflowOption = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what the workers print.")] = False,
    plain: PlainOption = False,
) -> None:
    from heliograph.cli.printing.output import say
    from heliograph.core.private_files import private_files
    from heliograph.core.world import World
    from heliograph.local import run_script
    from heliograph.local.preflight import PATIENCE, ScriptRefused
    from heliograph.local.run_folder import RunFolder, require_writable
    from heliograph.local.run_scope import scratch
    from heliograph.local.split import Split
    from heliograph.tracking.targets import Targets

    target = out or Path(f"{script.stem}.safetensors")
    with private_files(), scratch() as directory:
        options = run_script.Options(
            script, directory, edges, rounds, data, Split.parse(split), label, _test(test), seed,
            tuple(arguments or ()), _parameters(parameters), 0.0 if check is False else PATIENCE, verbose,
            None if header == "auto" else header, Targets(tensorboard, mlflow),
        )  # fmt: skip
        require_writable(target)
        try:
            if check:
                _check(options)
                return
            kept = RunFolder.create(folder, script)
            try:
                with screen(plain) as display:
                    outcome = until_signalled(lambda: run_script.run(options, kept, target, display, World()))
            except BaseException as error:
                kept.discard(refused=isinstance(error, ScriptRefused))
                if kept.log.exists():
                    say(f"the log: {kept.log}")
                raise
        except ScriptRefused as refused:
            _show_lines(refused.lines)
            raise
    _close(outcome, kept)


def _check(options: Options) -> None:
    from heliograph.cli.local.lines import Lines
    from heliograph.cli.printing.output import say
    from heliograph.core.world import World
    from heliograph.local import run_script

    parts, checked = until_signalled(lambda: run_script.check_only(options, Lines(), World()))
    for line in run_script.remarks(options, checked):
        say(f"✂ {line}")
    if checked.train is not None:
        say(f"✓ {options.script} begins: a model of {run_script.describe_model(checked.train)}")
    if checked.evaluate is not None and checked.evaluate.metrics:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(checked.evaluate.metrics.items()))
        say(f"✓ evaluate= measures the untrained model: {metrics}")
    if parts.samples:
        least, most = min(parts.samples.values()), max(parts.samples.values())
        say(f"✓ {options.data}: {least} to {most} samples on each of {options.edges} edges")


def _close(outcome: Outcome, folder: RunFolder) -> None:
    """Say what came of the run, and where everything is; fail or end as it did."""
    from heliograph.cli.local.curves import curves
    from heliograph.cli.printing.output import paint, printable, say
    from heliograph.core.errors import HeliographError
    from heliograph.local.edge_counts import named

    for name, values in list(curves(outcome.document).items())[:1]:
        show_curve(name, values)
    if outcome.failure:
        _show_lines(outcome.printed)
    for line in outcome.edges:
        say(printable(line))
    if outcome.model is not None:
        say(f"the model of round {outcome.model_round}: {outcome.model}")
        if outcome.best:
            say(f"the best one, of {outcome.best}: {folder.best}")
    else:
        say("no update was counted in any round: there is no model")
    if outcome.interrupted:
        status = outcome.document.get("status", {})
        say(f"interrupted in round {status.get('round', 0)} of {outcome.document.get('spec', {}).get('rounds', '?')}")
    for place in outcome.tracked:
        say(f"the rounds: {place}")
    say(f"models, metrics, and what the workers wrote: {folder.path}; the log: {folder.log}")
    never = [f"{named(outcome.uncounted)} never counted"] if outcome.uncounted else []
    if outcome.failure:
        raise HeliographError("; ".join([outcome.failure, *(never if "never counted" not in outcome.failure else [])]))
    warnings = [*_standing(outcome.document), *never]
    for line in warnings:
        say(paint(f"warning: {printable(line)}", "yellow"))
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
    if not warnings:
        say("next: start a cluster with heliograph up, and publish a task from any MQTT client")


def _standing(document: Mapping[str, Any]) -> list[str]:
    """Return what is still wrong with a job that has not failed: updates that change nothing, or that come late."""
    conditions = document.get("status", {}).get("conditions", ())
    wrong = [each for each in conditions if each["status"] == "False" and each["type"] != "Complete"]
    return [each.get("message") or each["reason"] for each in wrong]


def _show_lines(lines: list[str]) -> None:
    from heliograph.cli.printing.output import printable, say

    for line in lines[-MAX_LINES:]:
        say(printable(line))


def _test(text: str) -> Path | float | None:
    from heliograph.core.errors import Refused

    if not text:
        return None
    try:
        share = float(text)
    except ValueError:
        return Path(text)
    if not 0 < share < 1:
        raise Refused("invalid", field="--test", expected="a file, or a share between 0 and 1", got=text)
    return share


def _parameters(given: list[str] | None) -> dict[str, Scalar]:
    """Return the parameters by name; a value is a number or a truth value where it reads as one, else text."""
    import json

    found: dict[str, Scalar] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise misused("--set", expected="NAME=VALUE", got=text)
        if name in found:
            raise misused("--set", expected=f"{name} once", got=text)
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        found[name] = read if isinstance(read, (bool, int, float)) else value
    return found
