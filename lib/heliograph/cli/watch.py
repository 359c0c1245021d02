"""``watch``: what has changed from one document of a job to the next, a line each, until the job ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from heliograph.cli.output import paint, printable, say
from heliograph.cli.tables import short_metrics

if TYPE_CHECKING:
    from heliograph.client import AsyncClient

DELETED = 3
EXIT_CODES = {"Succeeded": 0, "Failed": 1, "Stopped": 2}
RETRY = 1.0
NAMED = 16


async def watch_job(client: AsyncClient, name: str, tell: Callable[[str], None] = say) -> int:
    """Tells what happens to a job until it has ended; returns the exit code. Outlives a coordinator that restarts."""
    from heliograph.bus.errors import Refused, Unreachable
    from heliograph.bus.world import World

    progress = Progress(name)
    world = World()
    reachable = True
    while True:
        try:
            async with aclosing(client.jobs.watch(name)) as documents:  # type: ignore[type-var]
                async for document in documents:
                    reachable = True
                    for line in progress.lines(document):
                        tell(line)
                    if progress.phase in EXIT_CODES or progress.deleted:
                        break
            break
        except Refused as error:
            if error.code != "not-found" or not progress.uid:
                raise
            break
        except Unreachable as error:
            if not progress.uid:
                raise
            if reachable:
                tell(paint(f"{error}; waiting", "yellow"))
            reachable = False
            await world.sleep(RETRY)
    if progress.phase in EXIT_CODES and not progress.deleted:
        return EXIT_CODES[progress.phase]
    tell(paint(f"job/{name} deleted", "yellow"))
    return DELETED


class Progress:
    """What of a job has been told already."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.uid = ""
        self.phase = ""
        self.deleted = False
        """Another job bears the name now."""
        self._round = 0
        self._measured = 0
        self._counts = {"refused": 0, "late": 0}
        self._conditions: dict[str, tuple[str, ...]] = {}

    def lines(self, document: Mapping[str, Any]) -> Iterator[str]:
        """What this document says that has not been told."""
        uid = document["metadata"].get("uid", "")
        self.deleted = self.uid not in ("", uid)
        if self.deleted:
            return
        self.uid = uid
        status = document.get("status", {})
        phase = status.get("phase", "")
        ended = phase in EXIT_CODES
        if phase != self.phase and not ended:
            edges = ", ".join(sorted(status.get("assignments", {}).values())[:NAMED])
            yield paint(f"job/{self.name} {phase}{f': {edges}' if phase == 'Running' else ''}", "bold")
        self.phase = phase
        yield from self._changed_conditions(status)
        news = [*self._closed_rounds(document, ended), *self._not_counted("refused", status),
                *self._not_counted("late", status)]  # fmt: skip
        yield from (line for _, line in sorted(news, key=lambda each: each[0]))
        if ended:
            yield self._end(status)

    def _changed_conditions(self, status: Mapping[str, Any]) -> Iterator[str]:
        for each in status.get("conditions", ()):
            said = (each["status"], each["reason"], each.get("message", ""))
            before = self._conditions.get(each["type"])
            self._conditions[each["type"]] = said
            # what is well from the start goes without saying, and the last line says what Complete does
            if said != before and (before or each["status"] != "True") and each["type"] != "Complete":
                style = "" if each["status"] == "True" else "yellow"
                message = f": {each['message']}" if each.get("message") else ""
                yield paint(printable(f"{each['type']}={each['status']} {each['reason']}{message}"), style)

    def _closed_rounds(self, document: Mapping[str, Any], ended: bool) -> Iterator[tuple[int, str]]:
        status = document.get("status", {})
        total = document.get("spec", {}).get("rounds", "?")
        records = status.get("rounds", ())
        for record in records:
            number, evaluation = record["round"], record.get("evaluation")
            if number <= self._round:
                if evaluation and number > self._measured:
                    self._measured = number
                    yield number, f"round {number} evaluated: {_metrics(evaluation)}"
                continue
            if record is records[-1] and not ended and not evaluation and _is_measured(document, number):
                return  # its evaluation is on its way, and belongs on the same line
            if evaluation:
                self._measured = number
            self._round = number
            yield number, _round_line(record, total)

    def _not_counted(self, kind: str, status: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
        count, notes = status.get(f"{kind}Count", 0), status.get(kind, ())
        fresh = count - self._counts[kind]
        self._counts[kind] = count
        for each in notes[-fresh:] if fresh > 0 else ():
            line = f"{kind}: {each['edge']}, round {each['round']}: {each['reason']}"
            yield each["round"], paint(printable(line), "yellow")

    def _end(self, status: Mapping[str, Any]) -> str:
        style = {"Succeeded": "green", "Failed": "red"}.get(self.phase, "yellow")
        complete = [each for each in status.get("conditions", ()) if each["type"] == "Complete"]
        why = "".join(f": {each['message']}" for each in complete if each.get("message"))
        lost = "".join(f", {count} {kind}" for kind, count in self._counts.items() if count)
        return paint(printable(f"job/{self.name} {self.phase}{why}{lost}"), style)


def _round_line(record: Mapping[str, Any], total: object) -> str:
    width = len(str(total))
    closed = f"  closed by {record['reason']}" if record.get("reason", "complete") != "complete" else ""
    metrics = _metrics(record.get("evaluation") or record.get("metrics"))
    return printable(
        f"round {record['round']:>{width}}/{total}  {record['counted']} counted  "
        f"{metrics + '  ' if metrics else ''}{record.get('durationSeconds', 0.0):.2f} s{closed}"
    )


def _parameters(worker: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = worker.get("workerSpec", {}).get("parameters", [])
    return found


def _metrics(metrics: Mapping[str, Any] | None) -> str:
    return " ".join(short_metrics(metrics))


def _is_measured(document: Mapping[str, Any], round: int) -> bool:
    """Whether the global model of that round will be evaluated."""
    spec = document.get("spec", {})
    if "evaluationWorker" not in spec:
        return False
    trained = [found for worker in spec.get("trainingWorkers", ()) if (found := _parameters(worker))]
    every = 1
    for parameter in [*_parameters(spec.get("aggregationWorker", {})), *(trained[0] if trained else ())]:
        if parameter["key"] == "rounds_between_validations" and isinstance(parameter.get("value"), int):
            every = max(1, parameter["value"])
    return bool(round % every == 0 or round == spec.get("rounds"))
