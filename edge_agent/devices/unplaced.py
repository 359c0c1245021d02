"""Messages of devices that no rule takes: counted, and said once for the first levels of their topics; the 10th, 100th,
… of all is said too."""

from __future__ import annotations

from collections.abc import Callable

from heliograph.core.errors import shorten
from heliograph.core.failures import is_milestone
from heliograph.edge_agent.devices.mapping import DeviceMapping

SAID = 64
"""Lines since the agent's start, at most."""
_LEVELS = 2
_CHARACTERS = 80


class UnplacedTopics:
    """Counts the messages that a mapping has no place for, and that it does not pass over by intention.

    Args:
        say: called with a line.
        counted: called with each such message.

    Attributes:
        count: such messages since the agent's start.
    """

    def __init__(
        self, mapping: DeviceMapping, say: Callable[[str], None], counted: Callable[[], None] = lambda: None
    ) -> None:
        self._mapping = mapping
        self._say = say
        self._counted = counted
        self._said: set[str] = set()
        self.count = 0

    def add(self, topic: str) -> None:
        """Take note of a message that has come on a topic without a place."""
        if self._mapping.passes_over(topic):
            return
        self.count += 1
        self._counted()
        if self.count > 1 and is_milestone(self.count):
            self._say(f"{self.count} messages of devices came on topics that no rule takes")
        first = _beginning(topic, self._mapping.address)
        if first in self._said or len(self._said) > SAID:
            return
        self._said.add(first)
        if len(self._said) > SAID:
            self._say("further topics of devices that no rule takes are only counted")
            return
        from heliograph.edge_agent.devices.presets import preset_of

        preset = preset_of(topic)
        how = f'preset = "{preset}"' if preset else "a rule for it"
        self._say(f"no rule takes what devices publish on {shorten(topic)}: it is not journalled. Write {how} into the "
                  "file of --devices-map; 'heliograph device topics' shows what would become of it")  # fmt: skip


def _beginning(topic: str, own: str) -> str:
    """Return the first levels of a topic; below the node's own address those that follow."""
    head = own if topic.startswith(own) else ""
    return head + "/".join(topic.removeprefix(head).split("/")[:_LEVELS])[:_CHARACTERS]
