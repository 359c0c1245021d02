"""``pair-jobs``: what a pair training job has made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in
from heliograph.cli.usage import examples, without_command

_PLURAL = "pair-jobs"
app = typer.Typer(help="See what a pair training job has made.", no_args_is_help=False, rich_markup_mode=None)
JobArgument = Annotated[str, typer.Argument(metavar="NAME", help="The job.")]
OutputOption = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="Output format.")]


def register(main: typer.Typer) -> None:
    main.add_typer(app, name=_PLURAL)


app.callback(invoke_without_command=True)(without_command)


@app.command(
    help="Show the two models that a job has trained, and what they do together.",
    epilog=examples("heliograph pair-jobs models digits"),
)
def models(name: JobArgument, output: OutputOption = "table", server: ServerOption = None) -> None:
    from heliograph.cli.printing.output import say, show_table

    name = label_in(name, _PLURAL)
    with about(_PLURAL, name):
        found: dict[str, Any] = ask(server, lambda client: client.pair_jobs.models(name))
    if output == "json":
        import json

        say(json.dumps(found, indent=2))
        return
    figures = found.get("figures") or {}
    rows = [
        [each["side"], each["model"], str(each.get("version", "")), str(each["samples"] or ""),
         _share(figures.get(f"{each['side']}Accuracy")), _share(figures.get(f"{each['side']}Objective")),
         each["digest"][:12]] for each in found["models"]
    ]  # fmt: skip
    show_table(("SIDE", "MODEL", "VERSION", "SAMPLES", "ACCURACY", "OBJECTIVE", "DIGEST"), rows)
    for line in told(found):
        say(line)


def told(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was selected, and what the pair does before and after it was tuned, a line each."""
    if selected := found.get("selected"):
        yield (f"selected {selected['selected']} of {selected['public']} public samples, at distances from "
               f"{selected['nearest']:.4g} to {selected['farthest']:.4g}; {selected['leftOut']} near ones are in the "
               "evaluation, and left out")  # fmt: skip
    if figures := found.get("figures"):
        parameters = ", ".join(f"{each['key']} {_value(each.get('value'))}" for each in figures["parameters"])
        for when in ("before", "after"):
            pair = figures[when]
            yield (f"{when} tuning: accuracy {pair['accuracy']:.4f} with {pair['offload']:.1%} offloaded, calibration "
                   f"error {pair['calibrationError']:.4f}").replace("%", " %")  # fmt: skip
        wish = "" if figures["reached"] else "; the tuning did not reach what it wanted"
        yield (f"rule {figures['rule']}, {parameters}, temperature {figures['temperature']:.4g}; tuned on "
               f"{figures['tunedOn']} and measured on {figures['measuredOn']} samples of evaluation set "
               f"{figures['evaluation'][:12]}{wish}")  # fmt: skip
        if figures["unmeasured"]:
            yield f"no sample to measure with: {', '.join(figures['unmeasured'])}"
    if service := found.get("service"):
        yield f"service: services/{service}"


def _share(value: float | None) -> str:
    return f"{value:.4f}" if value is not None else ""


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
