"""``doctor``: make the checks, and say what is wrong and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from heliograph.cli.asking.requests import ServerOption
from heliograph.cli.usage import examples, misused

if TYPE_CHECKING:
    from heliograph.cli.doctor.check import Check, Finding, Level, Patient
    from heliograph.core.world import World

    Result = tuple[str, list[Finding]]

_DOCTOR = """Say what is wrong with a cluster, and how to mend it.

Broker, coordinator, edges, clocks, disks, versions and permissions are examined, of this machine too.

Exit code: 0 nothing is wrong, 1 a problem was found; warnings and notes are no problems."""
PATIENCE = 10.0
"""Seconds that one check may take."""
CONNECT_TIMEOUT = 3.0
_SIGNS: dict[Level, tuple[str, str]] = {
    "good": ("✓", "green"), "note": ("·", "dim"), "warning": ("!", "yellow"), "problem": ("✗", "red"),
}  # fmt: skip
WIDTH = 13


def register(app: typer.Typer) -> None:
    app.command(help=_DOCTOR, epilog=examples("heliograph doctor", "heliograph doctor --check clock -o json"))(doctor)


def doctor(
    only: Annotated[
        list[str] | None, typer.Option("--check", metavar="NAME", help="Make only this check; repeatable.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the checks.")] = False,
    node: Annotated[
        str,
        typer.Option(metavar="URL", envvar="HELIOGRAPH_NODE", help="mqtt:// URL of a node's broker to examine too."),
    ] = "",
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="Output format.")] = "table",
    server: ServerOption = None,
) -> None:
    import asyncio

    from heliograph.cli.doctor.check import worst
    from heliograph.cli.doctor.checks import CHECKS
    from heliograph.cli.exit_codes import FAILED
    from heliograph.cli.printing.output import say, show_table
    from heliograph.core.world import World

    if show:
        return show_table(["CHECK", "WHAT"], [[each.name, each.what] for each in CHECKS])
    known = {each.name: each for each in CHECKS}
    for name in only or ():
        if name not in known:
            raise misused("--check", expected=f"one of {', '.join(known)}", got=name)
    chosen = [each for each in CHECKS if not only or each.name in only]
    results = asyncio.run(examine_all(server, node, chosen, World()))
    for line in _as_json(results) if output == "json" else lines_of(results):
        say(line)
    if worst(finding for _, found in results for finding in found) == "problem":
        raise typer.Exit(FAILED)


async def examine_all(server: str | None, node: str, checks: Sequence[Check], world: World) -> list[Result]:
    """Connect to the cluster, if there is one, and make the checks one after the other."""
    from contextlib import AsyncExitStack

    from heliograph.cli.doctor.check import Patient
    from heliograph.client import AsyncClient
    from heliograph.core.errors import HeliographError
    from heliograph.server import locate

    patient = Patient(world, node=node)
    async with AsyncExitStack() as stack:
        try:
            patient = Patient(world, locate(server), node=node)
            client = AsyncClient(server, timeout=PATIENCE / 2, connect_timeout=CONNECT_TIMEOUT)
            await stack.enter_async_context(client)
            patient = Patient(world, patient.server, client, node=node)
        except (HeliographError, OSError) as error:
            patient = Patient(world, patient.server, failure=error, node=node)
        return [(each.name, await examine(each, patient)) for each in checks]


async def examine(check: Check, patient: Patient) -> list[Finding]:
    """Make one check. What goes wrong in it is a problem that it has found: the other checks are still made."""
    import asyncio

    from heliograph.cli.doctor.check import Finding
    from heliograph.core.failures import sentence_of

    if check.needs_cluster and patient.client is None:
        return [Finding("note", "not examined: the broker cannot be reached")]
    try:
        async with asyncio.timeout(PATIENCE):
            return await check.examine(patient)
    except TimeoutError:
        mend = "Try again: the machine or the broker may be busy."
        return [Finding("problem", f"no result within {PATIENCE:g} s", mend)]
    except Exception as error:
        return [Finding("problem", sentence_of(error, f"the check {check.name}"))]


def lines_of(results: Sequence[Result]) -> Iterator[str]:
    """Yield the findings as lines, each with what to do about it below."""
    from heliograph.cli.printing.output import paint, printable

    for name, findings in results:
        for each in findings:
            sign, style = _SIGNS[each.level]
            yield f"{paint(sign, style)} {name.ljust(WIDTH)} {printable(each.text)}"
            if each.mend and each.level != "good":
                yield f"  {' ' * WIDTH} {paint(f'→ {printable(each.mend)}', 'dim')}"
    every = [each.level for _, findings in results for each in findings]
    counts = [f"{count} {word}{'' if count == 1 else 's'}"
              for word in ("problem", "warning") if (count := every.count(word))]  # fmt: skip
    yield ", ".join(counts) if counts else "nothing is wrong"


def _as_json(results: Sequence[Result]) -> Iterator[str]:
    import json

    from heliograph.cli.printing.output_forms import escaped

    tree = [
        {"check": name, "level": each.level, "text": each.text, "mend": each.mend}
        for name, findings in results for each in findings
    ]  # fmt: skip
    yield escaped(json.dumps(tree, indent=2, ensure_ascii=False))
