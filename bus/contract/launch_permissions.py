"""Permissions of one launch of a worker: of what the registry lets its role do, what is this worker's and its job's.

A login that a launch gets names the launch alone; what such a login may stands in its account once, as a template, in
which the broker puts the names. Of JetStream's requests those are listed that a worker needs. None of them deletes or
changes a stream, and a worker's consumer has the worker's own name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract import buckets
from heliograph.bus.contract.permissions import Permissions, Place, carries, inbox_of, upload_bucket, worker_login
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.subjects import Subjects
from heliograph.bus.contract.topics import DEFAULT_ROOT, HARD_SAMPLE, INFERENCE_REQUEST, OFFLOAD, Role, Topic
from heliograph.core.names import CLOUD

_CLOSED_BUCKETS = (buckets.PACKAGES, buckets.DATASETS, buckets.SHARDS)
"""Object stores that no worker reads: its agent fetches for it."""
_KEYS = (buckets.ROUNDS, buckets.RESOURCES, buckets.COORDINATOR, buckets.INFERENCE, buckets.LABELS, buckets.SAMPLES,
         buckets.LEARNING)  # fmt: skip


@dataclass(frozen=True)
class Launch:
    """What names a launch in subjects.

    Attributes:
        edge: the node of its agent.
        job: name of its job or service.
        login: name by which it logs in; its inbox and its consumer have it too.
    """

    worker: str
    job: str
    job_uid: str
    edge: str
    login: str

    @classmethod
    def of(cls, worker: str, job: str, job_uid: str, edge: str) -> Launch:
        """Return the names of a launch whose login is made from its worker's name."""
        return cls(worker, job, job_uid, edge, worker_login(worker))


def launch_permissions(place: Place, launch: Launch, root: str = DEFAULT_ROOT) -> Permissions:
    """Return what a launch may do on the cloud's broker or on its node's."""
    role: Role = "cloud-worker" if place == "cloud" else "worker"
    subjects = Subjects(root)
    topics = [topic for topic in declared().topics if carries(topic, place)]
    publish = [_subject(subjects, topic, _told(topic, launch)) for topic in topics if role in topic.publishers]
    heard = [topic for topic in topics if role in topic.subscribers]
    subscribe = [_subject(subjects, topic, _heard(launch)) for topic in heard]
    if place == "node":
        return Permissions(tuple(publish), tuple(subscribe))
    of_streams = [topic for topic in heard if topic.stream is not None]
    publish += _jetstream(subjects, launch, [
        (subjects.stream_name(topic.stream_name), _subject(subjects, topic, _heard(launch)))
        for topic in of_streams
    ])  # fmt: skip
    subscribe.append(f"{inbox_of(launch.login)}.>")
    return Permissions(tuple(publish), tuple(subscribe), ("$MQTT.>", *_closed(subjects)), answers=True)


def _told(topic: Topic[Any], launch: Launch) -> dict[str, str]:
    """Return the names in the addresses that a worker publishes to."""
    found = {"worker": launch.worker, "component": launch.worker}
    if topic is not HARD_SAMPLE:  # those are for another job, which learns from them
        found["job"] = launch.job
    if topic is not INFERENCE_REQUEST:  # a worker may ask another service
        found["service"] = launch.job
    if not topic.of_edge or topic.words[2] == "up":  # what goes down goes to another edge
        found["edge"] = launch.edge
    if topic is OFFLOAD:
        found["client"] = launch.worker
    return found


def _heard(launch: Launch) -> dict[str, str]:
    """Return the names in the addresses that a worker subscribes to: it hears all edges of its job. A node's broker
    carries its own edge alone."""
    return {"worker": launch.worker, "job": launch.job, "service": launch.job, "client": launch.worker}


def _subject(subjects: Subjects, topic: Topic[Any], names: dict[str, str]) -> str:
    named = {name: value for name, value in names.items() if name in topic.params}
    words = [named.get(word[1:-1], "+") if word.startswith("{") else word for word in topic.words]
    return subjects.subject("/".join(words))


def _jetstream(subjects: Subjects, launch: Launch, streams: list[tuple[str, str]]) -> Iterator[str]:
    """Yield the requests to JetStream, and the subjects of what a worker stores.

    Args:
        streams: name and subject of what it reads of streams.
    """
    for stream, subject in streams:
        yield f"$JS.API.CONSUMER.CREATE.{stream}.{launch.login}.{subject}"
        yield f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{launch.login}"
        yield f"$JS.API.CONSUMER.DELETE.{stream}.{launch.login}"
    rounds = f"$KV.{subjects.stream_name(buckets.ROUNDS)}.{launch.job_uid}.>"
    yield rounds
    yield f"$JS.API.DIRECT.GET.KV_{subjects.stream_name(buckets.ROUNDS)}.{rounds}"
    for bucket in (buckets.MODELS, upload_bucket(CLOUD)):
        yield f"$O.{subjects.stream_name(bucket)}.>"
    yield "$JS.API.DIRECT.GET.*.$O.*.M.*"
    yield from ("$JS.API.STREAM.INFO.*", "$JS.API.DIRECT.GET.*")  # of uploads, whatever the edge; see ``_closed``


def _closed(subjects: Subjects) -> Iterator[str]:
    """Yield what is excepted from the requests about any stream: a name cannot be bound to ``OBJ_up-`` by a wildcard,
    so that whatever holds no weights is named here."""
    names = [f"KV_{subjects.stream_name(bucket)}" for bucket in _KEYS]
    names += [f"OBJ_{subjects.stream_name(bucket)}" for bucket in _CLOSED_BUCKETS]
    names += [subjects.stream_name(stream.name) for stream in declared().streams()]
    for name in names:
        yield from (f"$JS.API.STREAM.INFO.{name}", f"$JS.API.DIRECT.GET.{name}")
