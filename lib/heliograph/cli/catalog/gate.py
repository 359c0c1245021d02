"""``gate``: may a new model replace the deployed one?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from heliograph.cli.usage import examples, misused

if TYPE_CHECKING:
    from heliograph.gate import Verdict

_GATE = """Say whether a new model may replace the deployed one, by what both answered on the same held-out samples.

OUTCOMES.csv has a first line sample,label,champion,challenger: the sample's id, its true class, and the classes that
the deployed model and the new one gave.

Exit code: 0 passes, 1 fails or undecided."""


def register(app: typer.Typer) -> None:
    example = "heliograph gate outcomes.csv --margin -0.01 --floor 0.8 --floor-of stop=0.95"
    app.command(help=_GATE, epilog=examples(example))(gate)


def gate(
    file: Annotated[Path, typer.Argument(metavar="OUTCOMES.csv", help="The answers of both models.")],
    margin: Annotated[
        float, typer.Option(min=-1, max=1, help="Least gain in accuracy, beyond chance; negative allows a loss.")
    ] = 0.0,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Confidence of the test.")] = 0.95,
    floor: Annotated[float, typer.Option(min=0, max=1, help="Least recall in every class.")] = 0.0,
    floor_of: Annotated[
        list[str] | None, typer.Option(metavar="CLASS=RECALL", help="Least recall in one class; repeatable.")
    ] = None,
    most_lost: Annotated[float, typer.Option(min=0, max=1, help="Recall that a class may lose at most.")] = 1.0,
    least_support: Annotated[int, typer.Option(min=1, help="Samples that are needed.")] = 200,
    least_class_support: Annotated[int, typer.Option(min=1, help="Samples of a class that are needed.")] = 20,
    held_out: Annotated[
        int | None,
        typer.Option(min=1, max=99, metavar="PERCENT", help="Refuse samples outside this held-out part, by their ids."),
    ] = None,
    salt: Annotated[str, typer.Option(help="Name of the division into parts, with --held-out.")] = "",
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="Output format.")] = "text",
) -> None:
    from heliograph.cli.printing.output import say
    from heliograph.gate import EvaluationSet, Gate, HeldOut
    from heliograph.gate.outcomes_file import check_held_out, read_outcomes

    rules = Gate(margin, confidence, floor, _floors(floor_of), most_lost, least_support, least_class_support)
    outcomes = read_outcomes(file)
    version = ""
    if held_out is not None:
        rule = HeldOut(held_out, salt)
        check_held_out(outcomes, rule)
        version = EvaluationSet.of(rule, [each.sample for each in outcomes]).version
    verdict = rules.judge(outcomes, version)
    say(_as_json(verdict) if output == "json" else _as_text(verdict))
    raise typer.Exit(0 if verdict.passes else 1)


def _floors(given: list[str] | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in given or ():
        name, _, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise misused("--floor-of", expected="CLASS=RECALL with a recall from 0 to 1", got=text)
    return found


def _as_text(verdict: Verdict) -> str:
    from heliograph.cli.printing.output import printable

    lines = [f"{verdict.decision}: accuracy {verdict.champion:.4f} -> {verdict.challenger:.4f} on {verdict.support} "
             f"samples, gain above {verdict.bound:+.4f} (McNemar p = {verdict.test.p_better:.3g})"]  # fmt: skip
    lines += [f"  {printable(each)}" for each in verdict.reasons]
    lines += [f"  evaluation set {verdict.evaluation}"] if verdict.evaluation else []
    return "\n".join(lines)


def _as_json(verdict: Verdict) -> str:
    import json
    from dataclasses import asdict

    tree = {**asdict(verdict), "test": verdict.test._asdict(), "passes": verdict.passes}
    return json.dumps(tree, indent=2)
