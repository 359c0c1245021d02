"""The registry: every topic, resource kind and verb that the features declare, built-in ones and outside ones.

Outside features come from the entry points of the group ``heliograph.features``. Each process discovers them once, at
the first call of ``declared``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from threading import RLock
from typing import Any

from pydantic import BaseModel, ValidationError

from heliograph.bus.contract.features import BUILT_IN as BUILT_IN_FEATURES
from heliograph.bus.contract.features import ENTRY_POINTS, STANDARD, WRITES, FeatureDeclaration, Verb
from heliograph.bus.contract.former_names import present_address
from heliograph.bus.contract.models import models_of
from heliograph.bus.contract.resources import refusal_of
from heliograph.bus.contract.resources.base import Resource
from heliograph.bus.contract.topics import CORE, EDGE, Stream, Topic
from heliograph.core.errors import Refused
from heliograph.core.names import LABEL_RULE, is_label


class Registry:
    """The topics, kinds and verbs that a set of features declares.

    Attributes:
        features: by plural, in the order in which people see them.
        topics: the core's, then those of each feature.
        verbs: names of the request verbs by the resource's plural; each pair is a request topic and a client method.
    """

    def __init__(self, features: Iterable[FeatureDeclaration]) -> None:
        self.features: Mapping[str, FeatureDeclaration] = {each.plural: each for each in features}
        declared = self.features.values()
        self.topics: tuple[Topic[Any], ...] = (*CORE, *(topic for each in declared for topic in each.topics))
        self.verbs: Mapping[str, tuple[str, ...]] = {plural: each.verb_names for plural, each in self.features.items()}
        self._by_pattern = {topic.pattern: topic for topic in self.topics}
        self._by_head: dict[str, list[Topic[Any]]] = {}
        """Topics by the words that tell most of them apart, see ``_head``."""
        for topic in self.topics:
            self._by_head.setdefault(self._head(topic.words), []).append(topic)

    @cached_property
    def kinds(self) -> Mapping[str, type[Resource]]:
        """The resource classes, by kind."""
        return {each.kind.__name__: each.kind for each in self.features.values()}

    @property
    def bodies(self) -> tuple[type[BaseModel], ...]:
        """The models of the requests' bodies, except those that are documents of resources."""
        return tuple(dict.fromkeys(verb.body for verb in self._asked()))

    @property
    def answers(self) -> tuple[type[BaseModel], ...]:
        """The models of the results that are no resources."""
        return tuple(dict.fromkeys(verb.answer for verb in self._asked() if verb.answer is not None))

    def _asked(self) -> Iterator[Verb]:
        for each in self.features.values():
            yield from (each.verb(name) for name in each.verb_names if name not in WRITES)

    @property
    def models(self) -> tuple[type[BaseModel], ...]:
        """The models that travel, without their parts: payloads, then resources, then those of requests."""
        return (*(topic.payload for topic in self.topics), *self.kinds.values(), *self.bodies, *self.answers)

    def extended(self, feature: FeatureDeclaration) -> Registry:
        """Return a registry with one more feature. Raises Refused if it is malformed or collides with another."""
        _check_kind(feature, self)
        for number, topic in enumerate(feature.topics):
            _check_topic(topic, (*self.topics, *feature.topics[:number]))
        found = Registry([*self.features.values(), feature])
        models_of(found.models)
        return found

    def lookup(self, address: str) -> tuple[Topic[Any] | None, dict[str, str]]:
        """Return the declared topic of an address and its parameters; None if no topic matches."""
        words = tuple(address.split("/", 4))
        for head in (self._head(words), words[0]):
            for topic in self._by_head.get(head, ()):
                params = topic.match(address)
                if params is not None:
                    return topic, params
        return None, {}

    @staticmethod
    def _head(words: tuple[str, ...]) -> str:
        """Return the fixed words that a topic is found by: its first and the next; of an edge's own topics the word
        that follows ``up`` or ``down``."""
        if words[0] == EDGE:
            return "/".join((EDGE, *words[2:4]))
        return "/".join(word for word in words[:2] if word[:1] not in ("{", "#"))

    def by_pattern(self, pattern: str) -> Topic[Any] | None:
        """Return the topic declared with exactly this pattern."""
        return self._by_pattern.get(pattern)

    def find_by_filter(self, pattern: str) -> Iterator[Topic[Any]]:
        """Return the topics with an address that the pattern may match."""
        words = pattern.split("/")
        return (topic for topic in self.topics if _may_match(topic.words, words))

    def streams(self) -> list[Stream]:
        """Return the streams that the topics declare."""
        return list({topic.stream.name: topic.stream for topic in self.topics if topic.stream is not None}.values())

    def stream_of(self, pattern: str) -> Stream:
        """Return the stream that stores a pattern's events. Raises Refused if none does."""
        for topic in self.find_by_filter(pattern):
            if topic.stream is not None:
                return topic.stream
        raise Refused("no-stream", topic=pattern, expected="a topic whose events a stream stores")


BUILT_IN = Registry(BUILT_IN_FEATURES)
"""Heliograph's own features; ``topics.md`` lists them."""
_lock = RLock()
_declared: Registry | None = None


def declared() -> Registry:
    """Return the registry of this process: the built-in features, and the installed outside features that load."""
    global _declared
    if _declared is None:
        with _lock:
            if _declared is None:
                _declared = BUILT_IN  # for an outside feature that calls this while it is imported
                _declared = _with_outside(BUILT_IN)
                lookup.cache_clear()
    return _declared


def find(address: str) -> tuple[Topic[Any], dict[str, str]]:
    """Return the declared topic of an address and its parameters. Raises Refused if no topic matches."""
    topic, params = lookup(address)
    if topic is not None:
        return topic, dict(params)
    if (present := present_address(address)) != address:
        raise Refused("unknown-topic", topic=address, expected=f"{present}, its name since 0.2", got=address)
    head = address.split("/", 1)[0]
    every = declared().topics
    shapes = [topic.pattern for topic in every if topic.words[0] == head] or [topic.pattern for topic in every]
    raise Refused(
        "unknown-topic", topic=address, expected=f"one of {', '.join(shapes)}, each word {LABEL_RULE}", got=address
    )


@lru_cache(maxsize=4096)
def lookup(address: str) -> tuple[Topic[Any] | None, tuple[tuple[str, str], ...]]:
    """Return the declared topic of an address and its parameters; None if no topic matches.

    Cached: a node's events use few addresses, and each event is looked up several times on its way.
    """
    topic, params = declared().lookup(address)
    return topic, tuple(params.items())


def parse_resource(tree: object, topic: str = "", plural: str | None = None) -> Resource:
    """Return the resource of a parsed document. Raises Refused naming ``topic`` and the first wrong field."""
    kinds = declared().kinds
    if not isinstance(tree, Mapping):
        raise Refused("invalid", topic=topic, expected="a mapping with apiVersion, kind, metadata and spec", got=tree)
    allowed = [name for name, kind in kinds.items() if plural in (None, kind.plural)]
    kind = tree.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise Refused("unknown-kind", topic=topic, field="kind", expected=" or ".join(allowed), got=kind)
    if kind not in allowed:
        raise Refused("wrong-kind", topic=topic, field="kind", expected=" or ".join(allowed), got=kind)
    if "metadata" in tree and "spec" not in tree and "spec" in kinds[kind].model_fields:
        tree = {**tree, "spec": {}}
    try:
        return kinds[kind].model_validate(tree)
    except ValidationError as error:
        raise refusal_of(error, topic) from None


def _with_outside(registry: Registry) -> Registry:
    """Add the outside features one by one; a warning names a broken one, and the others work."""
    from importlib.metadata import entry_points

    seen = set()
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda each: (each.name, each.value)):
        if (entry.name, entry.value) in seen:  # one package found in two places
            continue
        seen.add((entry.name, entry.value))
        try:
            feature = entry.load()
            if not isinstance(feature, FeatureDeclaration):
                raise Refused("invalid", expected="a FeatureDeclaration", got=feature)
            registry = registry.extended(feature)
        except Exception as error:  # whatever a foreign module raises
            reason = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
            package = f" of package {entry.dist.name}" if entry.dist is not None else ""
            logging.getLogger("heliograph").warning(
                "warning: feature %s (%s)%s is not used: %s", entry.name, entry.value, package, reason
            )
    return registry


def _check_kind(feature: FeatureDeclaration, registry: Registry) -> None:
    kind = feature.kind
    if not (isinstance(kind, type) and issubclass(kind, Resource) and {"spec", "status"} <= kind.model_fields.keys()):
        raise Refused("invalid", field="kind", expected="a Resource with spec and status", got=kind)
    if kind.__name__ in registry.kinds:
        raise Refused("exists", field="kind", expected="a kind that no other feature declares", got=kind.__name__)
    plural = getattr(kind, "plural", None)
    if not is_label(plural) or not str(plural).endswith("s"):
        raise Refused("invalid", field="plural", expected=f"{LABEL_RULE}; its last letter is s", got=plural)
    if feature.plural != plural:
        raise Refused("invalid", field="collection", expected=f"{plural}, the kind's plural", got=feature.plural)
    if plural in registry.verbs:
        raise Refused("exists", field="plural", expected="a plural that no other feature declares", got=plural)
    for verb in feature.verbs:
        _check_verb(verb)
    names = feature.verb_names
    if len(set(names)) != len(names):
        raise Refused("exists", field="verbs", expected="each verb once", got=", ".join(names))


def _check_verb(verb: str | Verb) -> None:
    name = verb.name if isinstance(verb, Verb) else verb
    if not is_label(name):
        raise Refused("invalid", field="verbs", expected=LABEL_RULE, got=name)
    if not isinstance(verb, Verb):
        return
    if name in STANDARD or name in WRITES:
        raise Refused("exists", field="verbs", expected="a verb that the coordinator does not answer itself", got=name)
    for model in filter(None, (verb.body, verb.answer)):
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise Refused("invalid", field="verbs", expected=f"models of body and answer of {name}", got=model)
    if verb.named != ("name" in verb.body.model_fields):
        expected = f"a body of {name} {'with a field' if verb.named else 'without a'} name"
        raise Refused("invalid", field="verbs", expected=expected, got=verb.body.__name__)


def _check_topic(topic: Topic[Any], others: Iterable[Topic[Any]]) -> None:
    if not isinstance(topic, Topic) or topic.words[0] not in (topic.delivery, EDGE):
        expected = "a Topic whose first word is its delivery, or edge"
        raise Refused("invalid", field="topics", expected=expected, got=topic)
    if topic.of_edge and (topic.words[1] != "{edge}" or topic.words[2] not in ("up", "down") or len(topic.words) < 4):
        expected = "edge/{edge}/up/NAME or edge/{edge}/down/NAME, and more words"
        raise Refused("invalid", field="topics", expected=expected, got=topic.pattern)
    words = topic.filter().split("/")
    for each in others:
        if each.name == topic.name or _may_match(each.words, words):
            raise Refused("exists", field="topics", expected="a topic that overlaps no other",
                          got=f"{topic.pattern}, beside {each.pattern}")  # fmt: skip
        if topic.stream is not None and each.stream is not None and topic.stream.name == each.stream.name:
            raise Refused("exists", field="topics", expected="a stream that no other topic uses", got=topic.stream.name)


def _may_match(mine: tuple[str, ...], words: list[str]) -> bool:
    for index, word in enumerate(words):
        if word == "#":
            return True
        if index >= len(mine):
            return mine[-1] == "#"
        if mine[index] == "#":
            return True
        if word != "+" and not mine[index].startswith("{") and mine[index] != word:
            return False
    return len(words) == len(mine)
