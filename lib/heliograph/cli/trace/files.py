"""``trace info``, ``cat``, ``filter``, ``import`` and ``export``: traces as files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.traces import layout, lines
from heliograph.bus.traces.patterns import check_pattern, matcher
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.schedule import Span, first_live
from heliograph.bus.traces.writing import TraceWriter
from heliograph.cli.printing.output import printable, say, show_table
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.world import rfc3339

_MAX_PROBLEMS = 5
"""Problems named in an error; ``info`` names all."""


def info(path: Path, output: str) -> int:
    with TraceReader(path) as reader:
        read = sum(1 for _ in reader.messages())
        for _ in reader.attachments():
            pass
        found, problems = reader.info, reader.problems
    if output == "json":
        say(json.dumps(
            {
                "version": found.version, "root": found.root, "metadata": found.metadata, "foreign": found.foreign,
                "whole": found.whole, "start": found.start, "end": found.end, "messages": found.total, "read": read,
                "topics": [{"topic": topic, "encoding": encoding, "messages": count}
                           for (topic, encoding), count in found.messages.items()],
                "attachments": [{"name": name, "size": size} for name, size in found.attachments],
                "problems": problems,
            }, indent=2, ensure_ascii=False,
        ))  # fmt: skip
    else:
        what = "a foreign MCAP file" if found.foreign else f"a trace of version {found.version}"
        say(f"{path}: {what}, root {printable(found.root)}, {path.stat().st_size:,} bytes")
        for name, value in found.metadata.items():
            say(f"{printable(name)}: {printable(value)}")
        if found.total:
            seconds = (found.end - found.start) / 1e9
            say(f"{read} of {found.total} messages read, from {rfc3339(found.start / 1e9)}, over {seconds:.3f} s")
        for name, size in found.attachments:
            say(f"attachment {printable(name)}: {size:,} bytes")
        rows: list[list[str | list[str]]] = [
            [topic, encoding or "raw", str(count)] for (topic, encoding), count in sorted(found.messages.items())
        ]
        if rows:
            show_table(["TOPIC", "ENCODING", "MESSAGES"], rows)
        for problem in problems:
            say(f"unreadable: {printable(problem)}")
    return 1 if problems else 0


def cat(path: Path, patterns: tuple[str, ...], since: str, until: str) -> None:
    with _checked(path) as reader:
        for each in _chosen(reader, patterns, since, until):
            sys.stdout.write(lines.line_of(each, decoded=True) + "\n")
        sys.stdout.flush()


def filter_trace(path: Path, out: Path, patterns: tuple[str, ...], since: str, until: str) -> None:
    with _checked(path) as reader:
        metadata = reader.info.metadata | {"filtered": " ".join(patterns) or "#"}
        with TraceWriter(out, root=reader.info.root, metadata=metadata) as writer:
            for each in _chosen(reader, patterns, since, until):
                writer.write(each)
            for name, data in reader.attachments():
                _attach(reader, writer, name, data)
        say(f"{out}: {writer.messages} of {reader.info.total} messages")


def import_lines(path: Path, out: Path) -> None:
    name = "stdin" if str(path) == "-" else str(path)
    with _reading(path) as file:
        numbered = iter(lines.lines_of(file, name))
        first = next(numbered, None)
        start = lines.parse_first_line(first[1], name) if first and isinstance(first[1], bytes) else None
        metadata, former = start or ({}, False)
        with _deleted_on_error(out), TraceWriter(
            out, root=metadata.pop("root", DEFAULT_ROOT), metadata=metadata
        ) as writer:  # fmt: skip
            if first is not None and start is None:
                lines.write_line(first[1], name, first[0], writer)
            for number, line in numbered:
                lines.write_line(line, name, number, writer, former)
    say(f"{out}: {writer.messages} messages, {len(writer.attached)} attachments")


def export_lines(path: Path, out: Path) -> None:
    with _checked(path) as reader, _writing(out) as file:
        file.write(lines.first_line(reader.info.root, reader.info.metadata) + "\n")
        written = attached = 0
        for each in reader:
            file.write(lines.line_of(each) + "\n")
            written += 1
        for name, data in reader.attachments():
            file.write(lines.attachment_line(name, data) + "\n")
            attached += 1
        file.flush()
    if str(out) != "-":
        say(f"{out}: {written} messages, {attached} attachments")


@contextmanager
def _checked(path: Path) -> Iterator[TraceReader]:
    """Open a trace; raise HeliographError at the end if a part was unreadable."""
    with TraceReader(path) as reader:
        yield reader
        if reader.problems:
            raise HeliographError(unreadable(reader))


def unreadable(reader: TraceReader) -> str:
    """Return the unreadable parts of a file on one line."""
    problems = "; ".join(printable(each) for each in reader.problems[:_MAX_PROBLEMS])
    more = len(reader.problems) - _MAX_PROBLEMS
    return f"{reader.path}: parts are unreadable: {problems}{f'; and {more} more' if more > 0 else ''}"


def _chosen(reader: TraceReader, patterns: tuple[str, ...], since: str, until: str) -> Iterator[Recorded]:
    wanted = matcher([check_pattern(each) for each in patterns]) if patterns else None
    if not since and not until:
        yield from reader.messages(wanted)
        return
    span = Span.parse(since, until, first_live(reader), layout.MAX_TIME)
    for each in reader.messages(wanted, 0, span.end):
        if each.retained or each.log_time >= span.start:
            yield each


def _attach(reader: TraceReader, writer: TraceWriter, name: str, data: bytes) -> None:
    try:
        writer.attach(name, data)
    except Refused:
        reader.problems.append(f"attachment {name[:80]}: its name is not its SHA-256; it was left out")


@contextmanager
def _deleted_on_error(out: Path) -> Iterator[None]:
    """Delete the part of a trace whose lines were refused: it is useless, and would block another attempt."""
    from heliograph.bus.traces.writing import part_of

    there = part_of(out).exists()
    try:
        yield
    except BaseException:
        if not there:
            part_of(out).unlink(missing_ok=True)
        raise


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    with path.open("rb") as file:
        yield file


@contextmanager
def _writing(path: Path) -> Iterator[TextIO]:
    if str(path) == "-":
        yield sys.stdout
        return
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        raise Refused("exists", topic=str(path), expected="a file that does not exist yet", got="an existing one",
                      hint="Choose another name, or delete it.") from None  # fmt: skip
    with file:
        yield file
