"""Events of the streams, as the commands read and show them."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract.clock_offset import corrected
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.registry import declared, lookup
from heliograph.bus.contract.topics import EDGE, Topic
from heliograph.cli.asking.streams_of import history_of
from heliograph.cli.events.event_text import summary
from heliograph.cli.printing.output import paint, printable
from heliograph.cli.printing.output_forms import escaped
from heliograph.cli.usage import misused
from heliograph.core.errors import Refused
from heliograph.core.world import rfc3339

if TYPE_CHECKING:
    from heliograph.bus.nats.history import Stored
    from heliograph.client import AsyncClient


async def show_events(
    client: AsyncClient, patterns: Sequence[str], since: float, watch: bool, write: Callable[[Happened], None]
) -> int:
    """Write the events since a time, oldest first, and return their number; with ``watch`` go on until cancelled."""
    count = 0
    async with history_of(client, patterns, since, "events") as history:
        async for each in history.past():
            write(read(each))
            count += 1
        if watch:
            async for each in history.live():
                write(read(each))
    return count


async def newest_events(client: AsyncClient, patterns: Sequence[str], since: float, most: int) -> list[Happened]:
    """Return the newest events since a time, at most ``most``, oldest first."""
    found: deque[Happened] = deque(maxlen=most)
    await show_events(client, patterns, since, False, found.append)
    return [*found]


@dataclass(frozen=True)
class Happened:
    """One event of a stream.

    Attributes:
        topic: name of its topic, such as ``aggregation``.
        words: the parameters of its address.
        time: seconds since 1970, by the sender's clock, with what its node has learned of that since; by the broker's
            where the event has none.
        source: ``<edge>/<component>`` of the sender.
        trouble: why it could not be read; empty if it could.
    """

    address: str
    topic: str
    words: tuple[str, ...]
    time: float
    source: str = ""
    data: Any = None
    trouble: str = ""


def read(stored: Stored) -> Happened:
    """Read an event of a stream."""
    topic, params = lookup(stored.topic)
    name = topic.name if topic is not None else stored.topic
    words = tuple(value for _, value in params)
    try:
        event = decode(stored.body, stored.topic)
    except Refused as error:
        return Happened(stored.topic, name, words, stored.time, trouble=str(error))
    source = "/".join(event.source.split("/")[:-1]) or event.source
    time = _seconds(corrected(event.time, stored.headers), stored.time)
    return Happened(stored.topic, name, words, time, source, event.data)


def line_of(happened: Happened) -> str:
    """Return ``14:03:22.105  aggregation  digits  cloud/aggregation  round=2 …``."""
    clock = datetime.fromtimestamp(happened.time).astimezone().strftime("%m-%d %H:%M:%S.%f")[:18]
    said = f"unreadable: {happened.trouble}" if happened.trouble else summary(happened.data)
    about = printable(" ".join(happened.words))
    return (
        f"{paint(clock, 'dim')}  {paint(happened.topic.ljust(16), 'cyan')}  {about.ljust(24)}  {printable(said)}"
    ).rstrip()


def chosen_topics(types: Sequence[str]) -> list[Topic[Any]]:
    """Return the topics of these names whose events streams keep; without names all but those of steady states, and the
    audit, which has a command of its own.

    Raises typer.BadParameter for another name.
    """
    kept = {topic.name: topic for topic in declared().topics if topic.delivery == "event" and topic.stream is not None}
    if "all" in types:
        return [*kept.values()]
    for each in types:
        if each not in kept:
            raise misused("--types", expected=f"all, or one of {', '.join(sorted(kept))}", got=each)
    if types:
        return [kept[each] for each in dict.fromkeys(types)]
    streams = ((topic, topic.stream) for topic in kept.values())
    return [topic for topic, stream in streams if stream is not None and not (stream.last_value or stream.append_only)]


def patterns_of(topics: Sequence[Topic[Any]], about: tuple[str, str] | None) -> list[str]:
    """Return the patterns of the events of these topics; of those about one resource, by plural and name."""
    if about is None:
        return [topic.filter() for topic in topics]
    plural, name = about
    own = {topic.name for topic in declared().features[plural].topics}
    found = []
    for topic in topics:
        # a hard sample's topic calls its service job: the first word beside the edge's, of a feature's own topics
        first = next((word for word in topic.params if word != EDGE), "")
        word = plural[:-1] if plural[:-1] in topic.params else first if topic.name in own else ""
        if word:
            found.append(topic.filter(**{word: name}))
    return found


def as_json(happened: Happened) -> str:
    tree = {"topic": happened.address, "time": rfc3339(happened.time), "source": happened.source}
    body = {"error": happened.trouble} if happened.trouble else {"data": happened.data}
    text = json.dumps(tree | body, ensure_ascii=False, default=_base64)
    if "NaN" in text or "Infinity" in text:  # numbers of MessagePack that JSON does not have become texts
        text = json.dumps(json.loads(text, parse_constant=str), ensure_ascii=False)
    return escaped(text)


def _base64(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, (bytes, bytearray)) else str(value)


def _seconds(text: str, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return otherwise
