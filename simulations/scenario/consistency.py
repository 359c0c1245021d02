"""Consistency between a scenario's parts: known names, fitting numbers, complete faults, reachable expectations.

Each check raises Refused with the field's path.
"""

from __future__ import annotations

from typing import Any

from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD
from heliograph.local.split import MIN_SAMPLES
from heliograph.simulations.scenario import fields
from heliograph.simulations.scenario.document import DIGITS, MOST_EDGES, Expectation, Fault, Job, Kind, Scenario
from heliograph.workers.algorithms import choose

COORDINATOR = "coordinator"

_REQUIRED: dict[Kind, tuple[str, ...]] = {
    "crash-agent": ("targets", "for"),
    "crash-worker": ("targets",),
    "crash-coordinator": ("for",),
    "full-disk": ("targets", "for"),
    "wrong-clock": ("targets", "for", "amount"),
    "slow-link": ("targets", "for", "amount"),
    "partition": ("targets", "for"),
    "byzantine": ("targets", "behaviour"),
    "straggler": ("targets", "amount"),
}
"""Fields that a kind requires."""
_OPTIONAL: dict[Kind, tuple[str, ...]] = {"byzantine": ("for", "amount"), "straggler": ("for",)}
_OTHER_TARGETS: dict[Kind, tuple[str, ...]] = {"crash-agent": (CLOUD,), "wrong-clock": (CLOUD, COORDINATOR)}
"""Targets other than edges."""


def check(scenario: Scenario) -> None:
    """Raise Refused for the first inconsistency."""
    _check_edges(scenario)
    _check_jobs(scenario)
    known = dict.fromkeys([*scenario.edge_names, *(group.name for group in scenario.edges)])
    for number, outage in enumerate(scenario.links.outages):
        _check_names(outage.edges, known, f"links.outages[{number}].edges", len(scenario.edge_names))
    for number, fault in enumerate(scenario.faults):
        _check_fault(fault, known, f"faults[{number}]", scenario)
    for number, expectation in enumerate(scenario.expect):
        _check_expectation(expectation, f"expect[{number}]", scenario)


def _check_edges(scenario: Scenario) -> None:
    names = [group.name for group in scenario.edges]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise Refused("twice", field=f"edges[{number}].name", expected="another name than an earlier group's",
                          got=name)  # fmt: skip
    edges = scenario.edge_names
    if len(edges) > MOST_EDGES:
        raise Refused("too-many", field="edges", expected=f"at most {MOST_EDGES} edges", got=len(edges))
    if len(set(edges)) < len(edges):  # a group ``a`` of eleven and a group ``a-1``
        raise Refused("twice", field="edges", expected="groups whose edges have different names", got=names)
    trained, data = scenario.data.training_samples(len(edges)), scenario.data
    if data.set == "digits" and trained + data.held_out > DIGITS:
        raise Refused("too-many", field="data.samples", expected=f"with held_out at most {DIGITS}, the size of digits",
                      got=trained + data.held_out)  # fmt: skip
    if trained < MIN_SAMPLES * len(edges):
        expected = f"at least {MIN_SAMPLES} for each of {len(edges)} edges"
        raise Refused("too-few", field="data.samples", expected=expected, got=trained,
                      hint="The synthetic set can be of any size.")  # fmt: skip


def _check_jobs(scenario: Scenario) -> None:
    edges = len(scenario.edge_names)
    for number, job in enumerate(scenario.jobs):
        at = f"jobs[{number}]"
        if job.name in [each.name for each in scenario.jobs[:number]]:
            raise Refused("twice", field=f"{at}.name", expected="another name than an earlier job's", got=job.name)
        if job.at >= scenario.duration:
            raise Refused("impossible", field=f"{at}.at", expected=f"less than duration, {scenario.duration:g} s",
                          got=f"{job.at:g}")  # fmt: skip
        _check_algorithm(job, at)
        most = edges if job.participants == "all" else job.participants
        if most > edges:
            raise Refused("impossible", field=f"{at}.participants", expected=f"at most {edges}, the number of edges",
                          got=most)  # fmt: skip
        if job.quorum is not None and job.quorum > most:
            raise Refused("impossible", field=f"{at}.quorum", expected=f"at most {most}, the participants of a round",
                          got=job.quorum)  # fmt: skip


def _check_algorithm(job: Job, at: str) -> None:
    try:
        choose(job.algorithm, job.parameters)
    except Refused as error:
        field = "algorithm" if error.code == "unknown-algorithm" else f"parameters.{error.field}"
        raise Refused(error.code, field=f"{at}.{field}", expected=error.expected, got=error.got) from None


def _check_fault(fault: Fault, known: dict[str, None], at: str, scenario: Scenario) -> None:
    given: dict[str, Any] = {"targets": fault.targets, "for": fault.lasting, "amount": fault.amount,
                             "behaviour": fault.behaviour}  # fmt: skip
    required = _REQUIRED[fault.kind]
    for name, value in given.items():
        if name in required and value is None:
            raise Refused("missing", field=f"{at}.{name}", expected=f"a value: {fault.kind} needs it", got="nothing")
        if value is not None and name not in (*required, *_OPTIONAL.get(fault.kind, ())):
            raise Refused("unknown-field", field=f"{at}.{name}", expected=f"no such field with {fault.kind}", got=value)
    if fault.kind == "slow-link" and fault.amount is not None and not 0 <= fault.amount <= 600:
        raise Refused("invalid", field=f"{at}.amount", expected="a latency from 0 to 600 s", got=fault.amount)
    if fault.kind == "straggler" and fault.amount is not None and fault.amount <= 0:
        raise Refused("invalid", field=f"{at}.amount", expected="a factor above 0", got=fault.amount)
    if fault.at >= scenario.duration:
        raise Refused("impossible", field=f"{at}.at", expected=f"less than duration, {scenario.duration:g} s",
                      got=f"{fault.at:g}")  # fmt: skip
    if fault.targets is not None:
        other_targets = dict.fromkeys(_OTHER_TARGETS.get(fault.kind, ()))
        _check_names(fault.targets, known | other_targets, f"{at}.targets", len(scenario.edge_names))


def _check_names(edges: object, known: dict[str, None], at: str, number: int) -> None:
    if isinstance(edges, float) and edges > number:
        raise Refused("impossible", field=at, expected=f"at most {number}, the number of edges", got=f"{edges:g}")
    for place, name in enumerate(edges if isinstance(edges, list) else ()):
        if name not in known:
            examples = ", ".join(list(known)[-20:])
            raise Refused("unknown-edge", field=f"{at}[{place}]", expected=f"an edge or a group, such as {examples}",
                          got=name)  # fmt: skip


def _check_expectation(each: Expectation, at: str, scenario: Scenario) -> None:
    try:
        found = fields.find_field(each.field, scenario)
    except Refused as error:
        raise Refused(error.code, field=f"{at}.field", expected=error.expected, got=error.got) from None
    bounds = (each.minimum, each.maximum)
    if (each.equals is not None) == (bounds != (None, None)):
        raise Refused("invalid", field=at, expected="minimum, maximum or both; or equals",
                      got="both kinds" if each.equals is not None else "none of them")  # fmt: skip
    if found.choices:
        if each.equals not in found.choices:
            got = each.equals if each.equals is not None else "a bound"
            raise Refused("impossible", field=f"{at}.equals", expected=f"one of {', '.join(found.choices)}", got=got)
        return
    if isinstance(each.equals, (str, bool)):
        raise Refused("impossible", field=f"{at}.equals", expected=f"a number, like {each.field}", got=each.equals)
    if each.minimum is not None and each.maximum is not None and each.minimum > each.maximum:
        raise Refused("impossible", field=f"{at}.minimum", expected=f"at most maximum, {each.maximum:g}",
                      got=f"{each.minimum:g}")  # fmt: skip
    for name, value in (("minimum", each.minimum), ("equals", each.equals)):
        if value is not None and value > found.maximum:
            raise Refused("impossible", field=f"{at}.{name}", expected=f"at most {found.maximum:g}, the maximum of "
                          f"{each.field}", got=f"{value:g}")  # fmt: skip
    for name, value in (("maximum", each.maximum), ("equals", each.equals)):
        if value is not None and value < 0:
            raise Refused("impossible", field=f"{at}.{name}", expected=f"0 or more, like {each.field}",
                          got=f"{value:g}")  # fmt: skip
