"""Names that topics had before 0.2, for traces and journals that were written then. Since 0.2 an edge's name comes
early in each topic that is its own, so that one rule of the broker covers them all."""

from __future__ import annotations

from typing import Any

from heliograph.bus.contract import topics
from heliograph.bus.contract.topics import Topic
from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD

_OF_JOB = (
    topics.MODEL_UPDATE, topics.EVALUATION, topics.CANDIDATE, topics.VERDICT, topics.PAIR_RESULT, topics.HARD_SAMPLE,
    topics.LABEL_TASK, topics.LABEL,
)  # fmt: skip
_BY_WORD: dict[str, Topic[Any]] = {each.words[3]: each for each in _OF_JOB}
_OF_EDGE: dict[str, Topic[Any]] = {"task": topics.TASK, "report": topics.REPORT}


def present_address(address: str, edge: str = CLOUD) -> str:
    """Return the present address of a topic by its address before 0.2; any other address as it is.

    Args:
        edge: the edge of an event whose former address named none.
    """
    try:
        return _renamed(address.split("/"), edge) or address
    except Refused:  # a word is no label: it is a pattern, or no address of ours
        return address


def _renamed(words: list[str], edge: str) -> str:
    """Return the present address; an empty one for an address that has kept its name. Raise Refused for bad words."""
    match words:
        case ["event", word, named] if word in _OF_EDGE:
            return _OF_EDGE[word].filter(edge=named)
        case ["event", word, job, *named] if word in _BY_WORD and len(named) < 2:
            return _BY_WORD[word].filter(edge=named[0] if named else edge, job=job)
        case ["event", "inference-stats", service, named, worker]:
            return topics.INFERENCE_STATS.filter(edge=named, service=service, worker=worker)
        case ["inference", service, "big-model", named]:
            return topics.BIG_MODEL.filter(edge=named, service=service)
        case ["claim", named]:
            return topics.CLAIM.filter(edge=named)
        case ["log", ("agent" | "worker") as component, named, name, *rest]:
            return topics.LOG.at(name, *rest, edge=named, component=component)
        case ["log", component, name, *rest]:
            return topics.LOG.at(name, *rest, edge=edge, component=component)
    return ""
