"""Permissions of devices on their node's broker.

Where each device has a login, it may do what an anonymous client may there, with the device's name in every address
that has one. What a mapping takes beside Heliograph's own topics, anonymous clients may publish.
"""

from __future__ import annotations

from collections.abc import Iterable

from heliograph.bus.contract.permissions import ANONYMOUS, carries
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.topics import DEFAULT_ROOT, REQUEST
from heliograph.core.errors import Refused
from heliograph.core.names import require_label

_NAMES = ("device", "producer", "client")
"""Parameters of addresses that name a device."""
_NO_SUBJECT = frozenset(" *>")


def device_topics(name: str, root: str = DEFAULT_ROOT) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the patterns that a device publishes to, and those that it subscribes to.

    Raise Refused if the name is no DNS label: a wildcard would widen them.
    """
    require_label(name, "device")
    carried = [topic for topic in declared().topics if carries(topic, "node")]

    def full(pattern: str) -> str:
        return f"{root}/{pattern}"

    publish, subscribe = [], []
    for topic in carried:
        own = {each: name for each in _NAMES if each in topic.params}
        if ANONYMOUS in topic.publishers:
            publish.append(full(topic.filter(**own)))
        if ANONYMOUS in topic.subscribers:
            subscribe.append(full(topic.filter(**own)))
    publish.append(full(REQUEST.filter(resource="labels")))  # the agent takes labellers' requests alone
    return tuple(publish), tuple(subscribe)


def is_foreign(pattern: str, root: str = DEFAULT_ROOT) -> bool:
    """Return whether an MQTT filter is about no topic of Heliograph and none of the broker's own."""
    first = pattern.split("/")[0]
    return first not in ("+", "#", root.split("/")[0]) and not first.startswith("$")


def require_foreign(pattern: str, root: str = DEFAULT_ROOT) -> str:
    """Return the filter. Raise Refused where ``is_foreign`` is false: it would widen what a device may do."""
    if not pattern or not is_foreign(pattern, root):
        raise Refused("invalid", field="topic", expected=f"a filter whose first level is a word, and not {root}",
                      got=pattern)  # fmt: skip
    return pattern


def foreign_subjects(patterns: Iterable[str], root: str = DEFAULT_ROOT) -> tuple[str, ...]:
    """Return the NATS subjects by which devices publish to MQTT filters beside Heliograph's own topics.

    None is returned for a filter that is not ``is_foreign``, since it would widen what devices may say to Heliograph
    and to the broker; nor for one that nats-server has no subject for.
    """
    found: list[str] = []
    for pattern in patterns:
        words = pattern.split("/")
        if not is_foreign(pattern, root) or not all(words):
            continue
        if any(set(word) & _NO_SUBJECT or not word.isprintable() for word in words):
            continue
        # nats-server writes a dot within a level as two slashes
        subject = [{"+": "*", "#": ">"}.get(word, word.replace(".", "//")) for word in words]
        found.append(".".join(subject))
        if words[-1] == "#":
            found.append(".".join(subject[:-1]))
    return tuple(dict.fromkeys(found))
