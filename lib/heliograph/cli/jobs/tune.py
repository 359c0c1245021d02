"""``heliograph tune``: tune the rule of a service on a labelled set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract.resources.joint_inference_service import HardSampleRule
from heliograph.cli.printing.output import say
from heliograph.core.errors import HeliographError, Refused

if TYPE_CHECKING:
    from heliograph.client import AsyncClient
    from heliograph.inference.tuning import LabelledSet, Tuned


@dataclass(frozen=True)
class TuneOptions:
    """The options of ``tune``, with either a target accuracy or a largest offload.

    Attributes:
        rule: another rule than the service's, with its default parameters.
        plot: file of the page with the curve.
    """

    data: Path
    target_accuracy: float | None = None
    max_offload: float | None = None
    rule: str | None = None
    plot: Path | None = None
    dry_run: bool = False


def tuner(service: str, options: TuneOptions) -> Callable[[AsyncClient], Awaitable[None]]:
    """Read the labelled set, and return the function that tunes the service with a client.

    Raise HeliographError if the set cannot be read, before the cluster is contacted.
    """
    data = _labelled(options.data)

    async def run(client: AsyncClient) -> None:
        services = client.resources("services")
        document = await services.get(service)
        before = HardSampleRule.model_validate(document["spec"].get("hardSampleRule", {}))
        tuned = _tuned(data, before, options)
        _show(service, tuned, options)
        if not tuned.choice.reached:
            raise HeliographError(f"{tuned.choice.sentence()}. service/{service} is unchanged")
        after = _rule(before, tuned)
        document["spec"]["hardSampleRule"] = after.model_dump(mode="json", exclude_none=True)
        if after != before:
            await services.update({key: document[key] for key in _APPLIED if key in document}, dry_run=options.dry_run)
        _say_changes(service, before, after, options.dry_run)

    return run


_APPLIED = ("apiVersion", "kind", "metadata", "spec")
"""The parts of a document that its owner applies."""


def _labelled(file: Path) -> LabelledSet:
    try:
        from heliograph.inference.tuning import read_labelled
    except ModuleNotFoundError as missing:
        if missing.name != "numpy":
            raise
        raise HeliographError("tuning needs NumPy and plotext: pip install 'heliograph[train]'") from None
    return read_labelled(file)


def _tuned(data: LabelledSet, before: HardSampleRule, options: TuneOptions) -> Tuned:
    """Tune the rule; keep the temperature of a rule that reads no probabilities, since nothing calibrates it."""
    from heliograph.inference.tuning import tune
    from heliograph.inference.tuning.search import PROBABILISTIC

    name = options.rule or before.name
    try:
        return tune(
            data, name, _parameters(before) if name == before.name else {},
            target_accuracy=options.target_accuracy, max_offload=options.max_offload,
            temperature=None if name in PROBABILISTIC else before.temperature,
        )  # fmt: skip
    except Refused as error:
        topic = str(options.data) if error.field.startswith("edge_scores") else error.topic
        hint = "Choose one with --rule." if error.code == "not-tunable" else error.hint
        raise Refused(error.code, topic=topic, field=error.field, expected=error.expected, got=error.got,
                      hint=hint) from None  # fmt: skip


def _rule(before: HardSampleRule, tuned: Tuned) -> HardSampleRule:
    """Return the rule with the earlier and the tuned parameters; the others keep the rule's defaults."""
    from heliograph.inference.hard_samples import full_parameters

    name = tuned.curve.rule
    named = {tuned.curve.parameter, *(_parameters(before) if name == before.name else ())}
    defaults = full_parameters(name, {})
    kept = {key: value for key, value in tuned.parameters.items() if key in named or value != defaults[key]}
    parameters = [{"key": key, "value": value} for key, value in kept.items()]
    return HardSampleRule.model_validate({"name": name, "parameters": parameters, "temperature": tuned.temperature})


def _show(service: str, tuned: Tuned, options: TuneOptions) -> None:
    from heliograph.inference.tuning import page, plot

    curve, found = tuned.curve, tuned.calibration
    shown = tuned.choice if tuned.choice.reached else None
    say(plot(curve, shown))
    say(f"edge alone {curve.edge_accuracy:.4f}, cloud alone {curve.cloud_accuracy:.4f}, {curve.samples} samples")
    if found is not None:
        better = f"{found.error_before:.4f} -> {found.error_after:.4f}"
        say(f"calibration error {better} at temperature {found.temperature:.4g}")
    if shown is not None:
        say(f"{curve.parameter} {shown.point.value:.6g}: {shown.sentence()}")
    if options.plot is not None:
        options.plot.write_text(page(curve, shown, f"{service}: accuracy and offload"), encoding="utf-8")
        say(f"plot in {options.plot}")


def _say_changes(service: str, before: HardSampleRule, after: HardSampleRule, dry_run: bool) -> None:
    """Print ``service/digits updated: value 0.9 -> 0.731, temperature 1 -> 1.42`` or the like."""
    old, new = _settings(before), _settings(after)
    if before.name != after.name:
        old = {key: old[key] for key in ("rule", "temperature")}  # parameters of different rules are not comparable
    changes = [
        f"{key} {old[key]} -> {value}" if key in old else f"{key} {value}"
        for key, value in new.items() if old.get(key) != value
    ]  # fmt: skip
    note = " (dry run)" if dry_run else ""
    say(f"service/{service} updated{note}: {', '.join(changes)}" if changes else f"service/{service} unchanged{note}")


def _parameters(rule: HardSampleRule) -> dict[str, Any]:
    return {each.key: each.value for each in rule.parameters if each.value is not None}


def _settings(rule: HardSampleRule) -> dict[str, str]:
    """Return all settings of a rule, defaults included, as text for people."""
    from heliograph.inference.hard_samples import full_parameters

    values = {**full_parameters(rule.name, _parameters(rule)), "temperature": rule.temperature}
    shown = {key: f"{value:.6g}" if isinstance(value, float) else str(value) for key, value in values.items()}
    return {"rule": rule.name, **shown}
