"""A person labels the tasks of a queue, one after the other, in the terminal."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass

from heliograph.bus.contract.label_requests import ClaimedTask
from heliograph.bus.contract.payloads import Annotation, Prediction, Result
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.cli.label.drawing import HEIGHT, WIDTH, drawn
from heliograph.cli.label.keys import END, ENTER, RESERVED, Keyboard, keys_of
from heliograph.cli.printing.output import coloured, paint, printable, say
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.label_client import Labeller
from heliograph.labelling.results import check_result

CLEAR = "\x1b[H\x1b[2J"


@dataclass
class Given:
    """What the person has done so far."""

    labelled: int = 0
    skipped: int = 0
    last: Annotation | None = None
    note: str = ""


async def label_by_hand(client: AsyncClient, queue: str, name: str, follow: bool) -> None:
    """Show one task after the other and give the labels that the person chooses, until none is left or it is enough."""
    given, world = Given(), World()
    with Keyboard() as keyboard:
        async with Labeller(client, queue, name, world=world) as labeller:
            async for task in labeller.tasks(follow=follow):
                schema = labeller.label_schema
                assert schema is not None
                if schema.type == "regions":
                    raise Refused("unsupported", topic=f"labels/{queue}", expected="a queue of choices, numbers or "
                                  "texts", got="regions", hint="Draw regions in Label Studio: "
                                  "'heliograph label-studio'.")  # fmt: skip
                if not await _label_one(task, schema, labeller, keyboard, given, world):
                    break
            else:
                say(f"labels/{queue}: nothing left to label for {name or 'this login'}")
    say(f"{given.labelled} labelled, {given.skipped} skipped")


async def _label_one(
    task: ClaimedTask, schema: LabelSchema, labeller: Labeller, keyboard: Keyboard, given: Given, world: World
) -> bool:
    """Ask for one label. Return False where the person wants to end."""
    began = world.monotonic()
    while True:
        _show(task, schema, labeller, given)
        typed = await (keyboard.key() if schema.type == "choice" and keys_of(schema.classes) else keyboard.line())
        given.note = ""
        if typed in (END, "q"):
            return False
        if typed == "s":
            await labeller.skip(task)
            given.skipped += 1
            return True
        if typed == "u":
            await _take_back(schema, labeller, keyboard, given)
            began = world.monotonic()
            continue
        said = _prediction(task)
        accepted = typed in (ENTER, "") and said is not None
        try:
            result = said.result.model_copy(update={"score": None}) if accepted and said else _result(typed, schema)
            check_result(result, schema, "label")
        except Refused as error:
            given.note = str(error)
            continue
        parent = said.model if said is not None and accepted else ""
        try:
            given.last = await labeller.submit(
                task, result, lead_time=round(world.monotonic() - began, 3), parent_prediction=parent
            )
        except Refused as error:
            if error.code not in ("lease-expired", "unknown-lease"):
                raise
            given.note = "that took longer than the task was yours: it is free again"
            return True
        given.labelled += 1
        return True


async def _take_back(schema: LabelSchema, labeller: Labeller, keyboard: Keyboard, given: Given) -> None:
    """Ask for another label in place of the last one."""
    if given.last is None or given.last.result is None:
        given.note = "there is no label to take back"
        return
    say(paint(f"the last label was {printable(given.last.result.value)}; which one instead?", "yellow"))
    typed = await (keyboard.key() if schema.type == "choice" and keys_of(schema.classes) else keyboard.line())
    try:
        result = _result(typed, schema)
        check_result(result, schema, "label")
        given.last = await labeller.correct(given.last, result)
    except Refused as error:
        given.note = str(error)
    else:
        given.note = f"changed to {printable(result.value)}"


def _result(typed: str, schema: LabelSchema) -> Result:
    """Return the result of what was typed: a key, a class, several with commas, a number or a text."""
    keys = keys_of(schema.classes)
    match schema.type:
        case "choice":
            return Result(type="choice", value=keys.get(typed, typed))
        case "choices":
            words = [each.strip() for each in typed.split(",") if each.strip()]
            return Result(type="choices", value=[keys.get(each, each) for each in words])
        case "number":
            try:
                return Result(type="number", value=float(typed.replace(",", ".")))
            except ValueError:
                return Result(type="number", value=typed[:1024])
    return Result(type="text", value=typed[:1024])


def _prediction(task: ClaimedTask) -> Prediction | None:
    return task.task.predictions[-1] if task.task.predictions else None


def _show(task: ClaimedTask, schema: LabelSchema, labeller: Labeller, given: Given) -> None:
    size = shutil.get_terminal_size((80, 40))
    in_colour = coloured(sys.stdout)
    picture = drawn(task.task, in_colour, min(WIDTH, size.columns - 2), max(4, min(HEIGHT, size.lines - 8)))
    head = f"{task.task.job}  {labeller.waiting} waiting, {given.labelled} labelled, {given.skipped} skipped"
    said = _prediction(task)
    lines = [
        paint(head, "bold"),
        f"from {task.task.edge}, {task.task.task[:12]}",
        "",
        *picture,
        "",
        printable(schema.question) if schema.question else "",
        *([paint(_said(said), "dim")] if said is not None else []),
        *_choices(schema, size.columns),
        paint(given.note, "yellow") if given.note else "",
    ]
    if in_colour:
        print(CLEAR, end="")
    print("\n".join(lines), flush=True)


def _said(said: Prediction) -> str:
    sure = f" {said.score:.2f}" if said.score is not None else ""
    return f"the model says {printable(said.result.value)}{sure}; Enter takes it over"


def _choices(schema: LabelSchema, width: int) -> list[str]:
    import textwrap

    keys = keys_of(schema.classes)
    ends = "  ".join(f"{key} {what}" for key, what in zip(RESERVED, ("skip", "undo", "quit"), strict=False))
    if schema.type == "number":
        return ["a number, then Enter", ends]
    if schema.type == "text":
        return ["a text, then Enter", ends]
    named = [f"{key} {printable(each)}" for key, each in keys.items()] or ["the name of a class, then Enter"]
    several = ["several with commas, then Enter"] if schema.type == "choices" else []
    return [*textwrap.wrap("   ".join(named), max(20, width - 1)), *several, ends]
