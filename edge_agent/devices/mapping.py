"""Which device and which event a topic of the devices' broker stands for.

A rule has a pattern of topics. ``{name}`` stands for one level, ``{name...}`` for one or more; ``+`` and ``#`` are
MQTT's own, for levels whose text does not matter. Device and event are made from what the names stand for. What is no
label becomes one: readable, with a hash, so that no two names give the same label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from heliograph.core.errors import Refused
from heliograph.core.names import LABEL_RULE, hashed_label, is_label
from heliograph.edge_agent.devices.topic_filters import ONE, REST, fewer

TELEMETRY = "telemetry"
"""The event of a message whose rule names none."""
LONGEST = 512
"""Characters of a topic that is taken, at most: it is kept as the subject of the event."""
MOST_FILTERS = 6
"""Filters from which on those of one first level become one: nats-server gives all of a client's subscriptions together
65,535 messages without an acknowledgement, each has 4,096 of them, and one that ends in ``#`` twice as many."""
_REMEMBERED = 1024
_NAME = "[a-z][a-z0-9-]*"
_CAPTURE = re.compile(rf"\{{({_NAME})(\.\.\.)?\}}")
_PIECE = re.compile(rf"\{{({_NAME})\}}|([a-z0-9-]+)")
_PATTERN = "levels of MQTT, of which any is a {name}, and one at most a {name...} or a closing #"
_MOST_LEVELS = 64


@dataclass(frozen=True, slots=True)
class Placed:
    """What a topic stands for.

    Attributes:
        device, event: DNS labels.
        content_type: of the payload, where the rule says it; None where the payload decides.
    """

    device: str
    event: str
    content_type: str | None = None


@dataclass(frozen=True)
class Rule:
    """One rule of a mapping. Raises Refused with the field that does not fit.

    Attributes:
        topic: pattern of the topics that it is about.
        device: the device, with names of the pattern: ``{line}-{machine}``. Empty: these messages are passed over.
        event: the event, likewise.
        content_type: see ``Placed``.
    """

    topic: str
    device: str = ""
    event: str = TELEMETRY
    content_type: str | None = None

    def __post_init__(self) -> None:
        self._check_topic()
        for field, text in (("device", self.device), ("event", self.event)):
            if text or field == "event":
                self._check_template(field, text)

    @property
    def skips(self) -> bool:
        """Whether its messages are passed over."""
        return not self.device

    @cached_property
    def filter(self) -> str:
        """The MQTT filter that takes its topics, and more where ``{name...}`` is not the last level."""
        words: list[str] = []
        for word in self._words:
            if word == REST or word.endswith("...}"):
                return "/".join([*words, REST])
            words.append(ONE if _CAPTURE.fullmatch(word) else word)
        return "/".join(words)

    def captured(self, topic: str) -> Mapping[str, str] | None:
        """Return what the names stand for in a topic; None where the rule is not about it. A name stands for no empty
        text."""
        levels, words = topic.split("/"), self._words
        if topic.startswith("$") and not words[0].startswith("$"):
            return None
        many = self._many
        if many is None:
            if len(levels) != len(words):
                return None
            heads, tails = list(zip(words, levels, strict=True)), []
        else:
            after = len(words) - many - 1
            if len(levels) < many + after + (words[many] != REST):
                return None
            heads = list(zip(words[:many], levels, strict=False))
            tails = list(zip(words[many + 1 :], levels[len(levels) - after :], strict=True))
            heads.append((words[many], "/".join(levels[many : len(levels) - after])))
        found: dict[str, str] = {}
        for word, text in (*heads, *tails):
            if capture := _CAPTURE.fullmatch(word):
                if not text:
                    return None
                found[capture[1]] = text
            elif word not in (ONE, REST, text):
                return None
        return found

    def place(self, captured: Mapping[str, str]) -> Placed:
        return Placed(_label(self.device, captured, "device"), _label(self.event, captured, "event"), self.content_type)

    @cached_property
    def _words(self) -> list[str]:
        return self.topic.split("/")

    @cached_property
    def _many(self) -> int | None:
        """The position of the word that stands for several levels."""
        return next((at for at, word in enumerate(self._words) if word == REST or word.endswith("...}")), None)

    def _check_topic(self) -> None:
        words = self.topic.split("/")
        if not 0 < len(self.topic) <= LONGEST or len(words) > _MOST_LEVELS or words[0] == "$share":
            raise Refused("invalid", field="topic", expected=f"1 to {LONGEST} characters, {_PATTERN}", got=self.topic)
        names: list[str] = []
        several = 0
        for at, word in enumerate(words):
            if capture := _CAPTURE.fullmatch(word):
                names.append(capture[1])
                several += bool(capture[2])
            elif word == REST and at == len(words) - 1:
                several += 1
            elif word != ONE and set(word) & set("{}+#\0"):
                raise Refused("invalid", field="topic", expected=_PATTERN, got=word)
        if several > 1 or len(names) != len(set(names)):
            raise Refused("invalid", field="topic", expected=f"{_PATTERN}, each name once", got=self.topic)

    def _check_template(self, field: str, text: str) -> None:
        known = [capture[1] for word in self._words if (capture := _CAPTURE.fullmatch(word))]
        pieces = [*_PIECE.finditer(text)]
        expected = f"a-z, 0-9 and '-', and names of the topic ({', '.join(f'{{{each}}}' for each in known) or 'none'})"
        if not text or "".join(each[0] for each in pieces) != text or len(text) > LONGEST:
            raise Refused("invalid", field=field, expected=expected, got=text)
        between = "-"
        for each in pieces:  # "{a}x{b}" could not be told apart
            if each[1] and "-" not in between:
                raise Refused("invalid", field=field, expected="'-' between two names", got=text)
            between = "" if each[1] else each[0]
        for each in pieces:
            if each[1] and each[1] not in known:
                raise Refused("invalid", field=field, expected=expected, got=each[0])
        if not any(each[1] for each in pieces) and not is_label(text):
            raise Refused("invalid", field=field, expected=LABEL_RULE, got=text)


class DeviceMapping:
    """The rules of a node, of which the first that is about a topic decides.

    Args:
        rules: the node's own; devices that publish ``<root>/event/telemetry/<edge>/<device>`` need none. Raises Refused
            where one is about other topics of Heliograph.

    Attributes:
        rules: the node's own.
        address: beginning of the topics that need no rule, with a closing ``/``.
        filters: what to subscribe to at the devices' broker. No two of them take one topic.
    """

    def __init__(self, root: str, edge: str, rules: Sequence[Rule] = ()) -> None:
        own = f"{root}/event/telemetry/{edge}"
        self._system = f"{root}/"
        self.address = f"{own}/"
        for rule in rules:
            if self._is_system(rule.topic):
                raise Refused("invalid", field="topic", got=rule.topic,
                              expected=f"topics outside {self._system}, or below {self.address}")  # fmt: skip
        self.rules = tuple(rules)
        self._rules = (*rules, Rule(f"{own}/{{device}}", "{device}"))
        # what is below its own address and fits no rule is counted: somebody meant this node
        self.filters = filters_of(self._rules, f"{own}/{REST}")
        self._placed: dict[str, Placed | None] = {}

    def place(self, topic: str) -> Placed | None:
        """Return what a topic stands for; None where no rule takes it. Cached: most messages come on few topics."""
        try:
            return self._placed[topic]
        except KeyError:
            if len(self._placed) >= _REMEMBERED:
                self._placed.clear()
            placed = self._placed[topic] = self._place(topic)
            return placed

    def passes_over(self, topic: str) -> bool:
        """Return whether a topic that has no place is none by intention: a rule says so, or it is a topic of Heliograph
        itself, which a wide filter brings along."""
        if self._is_system(topic):
            return True
        deciding = next((rule for rule in self._rules if rule.captured(topic) is not None), None)
        return deciding is not None and deciding.skips

    def _place(self, topic: str) -> Placed | None:
        if self._is_system(topic) or len(topic) > LONGEST:
            return None
        for rule in self._rules:
            if (captured := rule.captured(topic)) is not None:
                return None if rule.skips else rule.place(captured)
        return None

    def _is_system(self, topic: str) -> bool:
        return topic.startswith(self._system) and not topic.startswith(self.address)


def filters_of(rules: Iterable[Rule], own: str) -> tuple[str, ...]:
    """Return what to subscribe to for these rules, and for what is a node's own."""
    return fewer((*(rule.filter for rule in rules if not rule.skips), own), MOST_FILTERS)


def _label(template: str, captured: Mapping[str, str], otherwise: str) -> str:
    """Return the label of a template. Several names without ``-`` in them can be told apart in it, others cannot."""
    values: list[str] = []

    def value(piece: re.Match[str]) -> str:
        if piece[1]:
            values.append(captured[piece[1]])
        return captured[piece[1]] if piece[1] else piece[0]

    text = _PIECE.sub(value, template)
    if is_label(text) and (len(values) < 2 or not any("-" in each for each in values)):
        return text
    return hashed_label(text, "/".join(values), otherwise)
