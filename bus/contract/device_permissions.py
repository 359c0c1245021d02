"""Permissions of one device on its node's broker, where each device has a login: what a device may do under its name.

They are those of an anonymous client there, with the device's name in every address that has one.
"""

from __future__ import annotations

from heliograph.bus.contract.permissions import ANONYMOUS, carries
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.topics import DEFAULT_ROOT, REQUEST
from heliograph.core.names import require_label

_NAMES = ("device", "producer", "client")
"""Parameters of addresses that name a device."""


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
