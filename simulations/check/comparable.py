"""Payloads in a comparable form: without times, durations, generations and positions in streams, which differ in each
run, and with digests in place of weights. Fields unknown to this version are left out, because the trace may be of
another version."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from pydantic import ValidationError

from heliograph.bus.contract import registry, topics
from heliograph.bus.contract.payloads import Payload
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import dump
from heliograph.bus.contract.topics import Topic
from heliograph.core.errors import Refused
from heliograph.core.names import is_digest

_TIMES = frozenset(("since", "lastTransitionTime", "creationTimestamp", "startTime", "completionTime", "start_time",
                    "completion_time", "time", "stepSince", "trainedAt", "evaluatedAt", "deployedAt", "notBefore",
                    "began", "ended", "created", "opens"))  # fmt: skip
_PLACES = frozenset(("start", "next_sequence", "updatesFrom", "evaluationsFrom", "candidatesFrom", "verdictsFrom"))
"""Positions in streams; they differ because the replay's streams start empty."""
_IDS = frozenset(("annotation", "supersedes"))
"""Ids that a label gets when it is stored."""
_LATER = frozenset(("pinnedSamples", "roundBegan", "uncounted", "edges_of_job"))
"""Copies of what reports, jobs and closed rounds said, in fields that traces of 0.1 do not have."""
_UNREPLAYED = frozenset(("createdBy", "resourceVersion"))
"""Fields of the metadata that depend on who asked, and on what else is in the bucket."""
_NOT_REPLAYED = frozenset(("created_by", "signature"))
"""A replay has neither the callers of requests nor the key that signed models."""
_DURATIONS = frozenset(("duration_seconds", "durationSeconds", "seconds_late", "secondsLate"))
_LEFT_OUT = _PLACES | _IDS | _LATER | _NOT_REPLAYED | _DURATIONS
_GENERATION = {"epoch", "n"}
_MOMENTARY = {
    topics.REPORT.pattern: frozenset(
        ("version", "waiting_events", "dropped_events", "refused_events", "anomalous_events",
         "unplaced_events", "full", "capacity", "refused_document", "signs_rounds", "offers", "node")
    ),
}
"""Counts that only the node's broker knows, or that were right only at the moment of the report, what the machine has,
its keys and what it has free among it, and offers, which reports had in 0.1."""


class ComparedMessage(NamedTuple):
    """A message in comparable form."""

    topic: str
    payload: Any


def comparable(topic: Topic[Any], data: Any, job: str = "") -> Any:
    """Return a payload in comparable form.

    Args:
        job: keep only the tasks and workers of this job or service; empty for all.
    """
    data = _as_received(topic, data)
    dropped = _MOMENTARY.get(topic.pattern, frozenset())
    tree = {key: value for key, value in data.items() if key not in dropped} if isinstance(data, dict) else data
    if job and isinstance(tree, dict):
        for name in ("tasks", "workers"):
            if isinstance(tree.get(name), list):
                tree[name] = [each for each in tree[name] if not isinstance(each, dict) or each.get("job") == job]
    if topic is topics.REPORT and isinstance(tree, dict) and isinstance(tree.get("workers"), list):
        tree["workers"] = [_without_code_and_key(each) for each in tree["workers"]]
    return _stripped(tree)


def _without_code_and_key(worker: Any) -> Any:
    """Return a worker's report without the digest of its code and its key: a replay runs other code in its place, with
    no key."""
    if not isinstance(worker, dict):
        return worker
    return {key: value for key, value in worker.items() if key not in ("code", "key")}


def concerns(topic: Topic[Any], params: dict[str, str], job: str) -> bool:
    """Return whether an address concerns a resource that a feature runs, such as a job or a service; all addresses do
    if ``job`` is empty. A topic names the resource by its kind's singular: ``{job}``."""
    if not job:
        return True
    if topic is topics.STATUS:
        return params["resource"] in _run_by_features() and params["name"] == job
    return all(params[name] == job for name in _run_by_features().values() if name in params)


@cache
def _run_by_features() -> dict[str, str]:
    """Return plural and singular of the kinds that a feature of the coordinator runs, which have a status to ask for;
    the others are only stored."""
    features = registry.declared().features
    runs = [plural for plural, each in features.items() if each.coordinator and "status" in each.verb_names]
    return {plural: plural.removesuffix("s") for plural in runs}


def _as_received(topic: Topic[Any], data: Any) -> Any:
    """Return the payload as a receiver of this version reads it; unchanged if it cannot be read."""
    if topic is topics.STATUS:
        return _in_present_form(data)
    if not issubclass(topic.payload, Payload):
        return data
    try:
        return topic.payload.model_validate(data, extra="ignore").model_dump(exclude_unset=True)
    except ValidationError:
        return data


def _in_present_form(resource: Any) -> Any:
    """Return a resource with its spec in the present form, since an older release may have recorded another one, and
    without its creator, since a replayed request names no caller, and without its version, a position in a bucket."""
    if not isinstance(resource, dict) or "spec" not in resource:
        return resource
    try:
        read = parse_resource({key: value for key, value in resource.items() if key != "status"})
    except Refused:
        return resource
    metadata = {key: value for key, value in resource.get("metadata", {}).items() if key not in _UNREPLAYED}
    return resource | {"metadata": metadata, "spec": dump(read)["spec"]}


def _stripped(tree: Any) -> Any:
    if isinstance(tree, dict):
        if is_digest(tree.get("digest")) and "size" in tree and ("bucket" in tree or "inline" in tree):
            return tree["digest"]
        return {key: _value(key, value) for key, value in sorted(tree.items())
                if key not in _LEFT_OUT and not _is_generation(value)}  # fmt: skip
    if isinstance(tree, (list, tuple)):
        return [_stripped(each) for each in tree]
    if isinstance(tree, (bytes, bytearray)):
        return bytes(tree).hex()
    return tree


def _value(key: str, value: Any) -> Any:
    if key in _TIMES and isinstance(value, str):
        return "a time" if value else ""
    if key == "moves" and isinstance(value, list):  # of aliases; a replayed request names no caller
        value = [{name: each[name] for name in each if name != "by"} for each in value if isinstance(each, dict)]
    return _stripped(value)


def _is_generation(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == _GENERATION
