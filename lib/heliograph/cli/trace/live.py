"""``trace record`` and ``trace replay``: traces from and to a running broker."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import MQTT, ConnectionUrl
from heliograph.bus.contract.registry import lookup
from heliograph.bus.link_trouble import trouble_of
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.traces.blob_collector import BlobCollector
from heliograph.bus.traces.life import KEPT_UNTIL, kept_until
from heliograph.bus.traces.patterns import check_pattern
from heliograph.bus.traces.reading import TraceInfo, TraceReader
from heliograph.bus.traces.recording import Outcome, Recorder
from heliograph.bus.traces.replayed_message import Names
from heliograph.bus.traces.replaying import Replayer, ReplayOutcome
from heliograph.bus.traces.schedule import Choice, Span, first_live
from heliograph.bus.traces.writing import TraceWriter
from heliograph.bus.transport import Bus
from heliograph.cli.printing.output import printable, say
from heliograph.cli.trace.files import unreadable
from heliograph.cli.usage import misused
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Forbidden, HeliographError, Refused, Unreachable
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.server import locate

CONNECT_TIMEOUT = 5.0
_MAX_REASONS = 6
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Recording:
    """The options of ``trace record``; 0 seconds, messages or days set no limit."""

    out: Path
    patterns: tuple[str, ...]
    seconds: float
    messages: int
    with_blobs: bool
    blob_limit: int
    past: bool
    root: str
    keep_days: float = 0


@dataclass(frozen=True)
class Replay:
    """The options of ``trace replay``, as typed."""

    trace: Path
    patterns: tuple[str, ...]
    rename: tuple[str, ...]
    speed: str
    since: str
    until: str
    loop: bool
    raw: bool
    root: str
    document_key: Path | None


def record(server: str | None, options: Recording) -> int:
    for each in options.patterns:
        check_pattern(each)
    url = locate(server).url
    if options.with_blobs and ConnectionUrl.parse(url).scheme in MQTT:
        raise misused("--with-blobs", expected="a nats:// server, whose object store has the weights", got=_shown(url))
    return _run(lambda: _record(url, options))


async def _record(url: str, options: Recording) -> int:
    world = World()
    async with connect(url, root=options.root, world=world, name="trace") as bus:
        await _connected(bus)
        metadata = {"recorded": world.timestamp(), "from": _shown(url), "topics": " ".join(options.patterns)}
        if options.keep_days:
            metadata[KEPT_UNTIL] = kept_until(world.now(), options.keep_days)
        with TraceWriter(options.out, root=options.root, metadata=metadata) as writer:
            blobs = None
            if options.with_blobs and isinstance(bus, NatsBus):
                blobs = BlobCollector(bus, writer, world, options.blob_limit)
            recorder = Recorder(bus, writer, world, options.patterns, options.messages, blobs, options.past)
            with _on_signal(recorder.stop):
                announcing = asyncio.ensure_future(_announce(recorder, world, options, url))
                try:
                    outcome = await recorder.run()
                finally:
                    await cancel_and_wait(announcing)
            writer.add_end_metadata(_end_metadata(outcome, world))
    size = options.out.stat().st_size
    say(f"{options.out}: {outcome.messages} messages, {len(writer.attached)} blobs, {size:,} bytes; "
        f"dropped {outcome.dropped}")  # fmt: skip
    if outcome.complete:
        return 0
    raise HeliographError(f"{options.out}: {'; '.join(_missing(outcome))}")


async def _announce(recorder: Recorder, world: World, options: Recording, url: str) -> None:
    await recorder.ready.wait()
    until = f"for {options.seconds:g} s" if options.seconds else "until Ctrl-C"
    say(f"recording {options.root}/ {' '.join(options.patterns)} of {_shown(url)} into {options.out} {until}")
    for pattern in recorder.outcome.unstored:
        say(f"this broker has no stream for {pattern}: its events are recorded as they pass")
    if options.seconds:
        await world.sleep(options.seconds)
        recorder.stop()


def _end_metadata(outcome: Outcome, world: World) -> dict[str, str]:
    metadata = {"ended": world.timestamp(), "dropped": str(outcome.dropped), "outages": str(outcome.outages)}
    if missing := _missing(outcome):
        metadata["missing"] = "; ".join(missing)
    return metadata


def _missing(outcome: Outcome) -> list[str]:
    found = []
    if outcome.dropped:
        found.append(f"{outcome.dropped} of {outcome.dropped + outcome.messages} messages came faster than they could "
                     "be written; record fewer topics with --topics")  # fmt: skip
    if outcome.outages:
        found.append(f"the link was down {outcome.outages} times, for {outcome.away:.1f} s: messages of that time on "
                     "topics without a stream are missing")  # fmt: skip
    found += [f"blob {each}" for each in outcome.missing_blobs[:_MAX_REASONS]]
    if len(outcome.missing_blobs) > _MAX_REASONS:
        found.append(f"and {len(outcome.missing_blobs) - _MAX_REASONS} more blobs")
    return found + ([outcome.cut] if outcome.cut else [])


def replay(server: str | None, options: Replay) -> int:
    patterns = tuple(check_pattern(each) for each in options.patterns)
    names = Names.parse(list(options.rename))
    signer = Ed25519Signer.of(options.document_key) if options.document_key is not None else None
    speed = _speed(options.speed)
    url = locate(server, "--to").url if server is not None else ""
    with TraceReader(options.trace) as reader:
        info = reader.info
        span = Span.parse(options.since, options.until, first_live(reader), info.end)
        url = url or locate().url
        choice = Choice(patterns, options.raw)
        wanted = choice.selector()
        total = sum(count for (topic, _), count in info.messages.items() if wanted(topic))
        if not total and not reader.problems:
            raise HeliographError(f"{options.trace}: nothing to replay: {nothing_chosen(info, patterns)}")
        return _run(lambda: _replay(url, options, reader, span, choice, names, signer, speed, total))


async def _replay(
    url: str, options: Replay, reader: TraceReader, span: Span, choice: Choice, names: Names,
    signer: Ed25519Signer | None, speed: float, total: int,
) -> int:  # fmt: skip
    world = World()
    async with connect(url, root=options.root or reader.info.root, world=world, name="trace") as bus:
        await _connected(bus)
        with _progress(total, options.loop) as progress:
            replayer = Replayer(bus, world, choice=choice, names=names, signer=signer, speed=speed, progress=progress)
            task = asyncio.current_task()
            assert task is not None
            interrupted = False
            with _on_signal(task.cancel):
                try:
                    while True:
                        await replayer.run(reader, span)
                        if not options.loop or not replayer.outcome.complete or not replayer.outcome.selected:
                            break
                except asyncio.CancelledError:
                    task.uncancel()
                    interrupted = True
    outcome = replayer.outcome
    _say_skipped(outcome)
    where = _shown(url)
    if interrupted and not options.loop:
        count = max(total, outcome.selected)
        raise HeliographError(f"interrupted: replayed {outcome.published} of {count} messages to {where}")
    # "sent": an MQTT broker acknowledges a message even if it refuses it
    verb = "replayed" if isinstance(bus, NatsBus) else "sent"
    summary = f"{verb} {outcome.published} of {outcome.selected} messages to {where} in {outcome.seconds:.1f} s"
    why = [f"{reason} ({count})" for reason, count in outcome.refused.most_common(_MAX_REASONS)]
    if outcome.unknown:
        why.append(f"undeclared topics: {_counted(outcome.unknown)}; replay them with --raw")
    if reader.problems:
        why.append(unreadable(reader))
    if outcome.unsigned:
        say(f"{outcome.unsigned} messages have lost their signature, which no longer fits; name the key that the "
            "target's agents trust by --document-key")  # fmt: skip
    if not why and outcome.selected:
        say(summary)
        return 0
    if not outcome.selected:
        length = (reader.info.end - reader.info.start) / 1e9
        why.append(f"none of the {total} messages lies between --from and --until; the trace lasts {length:.1f} s")
    raise HeliographError(f"{summary}: {'; '.join(printable(each) for each in why)}")


def nothing_chosen(info: TraceInfo, patterns: tuple[str, ...]) -> str:
    """Return why a replay would publish no message of a trace, and what it has."""
    if not info.total:
        return "the trace has no messages"
    found: Counter[str] = Counter()
    for (address, _), count in info.messages.items():
        topic, _ = lookup(address)
        found[topic.pattern if topic is not None else address] += count
    has = f"its {info.total} messages are on {_counted(found)}"
    if patterns:
        return f"no topic matches --topics {' '.join(patterns)}; {has}"
    return ("without --topics only observations of edges and devices are replayed: telemetry, hard samples and labels; "
            f"{has}. Name what you want with --topics, such as --topics 'event/#'")  # fmt: skip


def _say_skipped(outcome: ReplayOutcome) -> None:
    if outcome.skipped:
        say(f"not replayed without --topics: {_counted(outcome.skipped)}")


def _counted(found: Counter[str]) -> str:
    counts = ", ".join(f"{printable(name)} {count}" for name, count in found.most_common(_MAX_REASONS))
    return counts + (f" and {len(found) - _MAX_REASONS} others" if len(found) > _MAX_REASONS else "")


def _speed(text: str) -> float:
    if text == "max":
        return 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1e-3 <= speed <= 1e6:
        raise Refused("invalid", field="--speed", got=text,
                      expected="recorded seconds replayed in each second, such as 1 or 10, or max")  # fmt: skip
    return speed


async def _connected(bus: Bus) -> None:
    try:
        await bus.link.wait_up(CONNECT_TIMEOUT)
    except Forbidden as error:
        raise Forbidden(f"{_shown(bus.url)}: {error}") from None
    except Unreachable:
        trouble = trouble_of(bus.link.failure, ConnectionUrl.parse(bus.url))
        raise Unreachable(f"cannot reach {_shown(bus.url)}: {trouble}") from None


def _shown(url: str) -> str:
    return ConnectionUrl.parse(url).shown


@contextmanager
def _on_signal(do: Callable[[], object]) -> Iterator[None]:
    """Call ``do`` at the first Ctrl-C or SIGTERM, for an orderly end; the second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        remove()
        do()

    def remove() -> None:
        for each in _SIGNALS:
            loop.remove_signal_handler(each)

    for each in _SIGNALS:
        loop.add_signal_handler(each, first)
    try:
        yield
    finally:
        remove()


@contextmanager
def _progress(total: int, endless: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar in a terminal."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("replaying", total=None if endless else total)
        yield lambda count: bar.advance(task, count)


def _run(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        return runner.run(main())
