"""Permissions of each role, generated from the registry. The broker forbids every subject that they do not name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from heliograph.bus.contract import buckets
from heliograph.bus.contract.features import ANYONE, Verb
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.subjects import Subjects
from heliograph.bus.contract.topics import DEFAULT_ROOT, JOB_ENDED, REQUEST, TASK, Role, Topic
from heliograph.core.names import CLOUD, is_label, require_label

Place = Literal["cloud", "node"]
ANONYMOUS, NEWCOMER = "anonymous", "newcomer"
"""Login of clients that send none, and the name without a password by which whoever has no login asks for one."""
OPERATOR = "operator"
"""Login of whoever runs the cloud."""
_UPLOADS = "up-"
_AGENT, _PARTICIPANT, _WORKER, _SITE = "agent-", "participant-", "worker-", "site-"


@dataclass(frozen=True)
class Permissions:
    """NATS subjects that a role may publish and subscribe to. Without any subject to publish, all are denied."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    deny: tuple[str, ...] = ("$MQTT.>",)
    """Subjects that nobody may publish: the broker's own MQTT subjects, which can forge retained messages. Denying
    subscriptions too would make the broker refuse every QoS 1 subscription."""
    answers: bool = False
    """Whether it may answer each message that it gets, wherever that asks for the answer."""


def permissions(role: Role, place: Place, root: str = DEFAULT_ROOT, edge: str = "", login: str = "") -> Permissions:
    """Return the permissions of a role on the cloud's broker or on a node's.

    Args:
        edge: the edge of an agent, or the name of a participant, whose permissions cover nothing else.
        login: the name by which a user, a participant or an operator logs in; a user and a participant read only the
            replies to that name.

    Raises:
        Refused: if a name is no DNS label: a wildcard would widen the permissions.
    """
    subjects = Subjects(root)
    if role == "coordinator" or (role == "agent" and place == "node"):
        return Permissions((">",), (">",))
    params = {"edge": edge} if role == "agent" and edge else {}
    if role == "participant":
        if place == "node":  # it is a participant of the cloud's jobs; on a node agents speak for their workers
            return Permissions((), (), (">",))
        params["edge"] = edge
    if role in ("user", "participant"):
        params["client"] = login
    carried = [topic for topic in declared().topics if carries(topic, place)]
    if role == "agent" and edge not in ("", CLOUD):  # the cloud's broker is the node's of the agent ``cloud`` alone
        carried = [topic for topic in carried if not topic.node_only]
        brought = [topic for topic in carried if topic.bridged != "up"]  # the others come to the agent on its node
    else:
        brought = carried
    publish = [subjects.subject(topic.filter(**params)) for topic in carried if role in topic.publishers]
    subscribe = [subjects.subject(topic.filter(**params)) for topic in brought if role in topic.subscribers]
    if role == "anonymous" and place == "cloud":  # only on their node may devices ask without a login
        publish = []
        public = (subjects.subject("status"), subjects.subject(JOB_ENDED.filter()))
        subscribe = [subject for subject in subscribe if subject.startswith(public)]
    if role == "newcomer" and place == "cloud":
        publish = [subjects.subject(each) for each in requests_of(lambda verb: verb.scope == ANYONE)]
    if role == "participant":
        publish.remove(subjects.subject(REQUEST.filter()))
        publish += [subjects.subject(each) for each in requests_of(lambda verb: verb.participants)]
    if role in ("user", "anonymous") and place == "node":  # only labellers' requests are taken there, by the agent
        publish = [subject for subject in publish if not subject.startswith(subjects.subject("request"))]
        publish.append(subjects.subject(REQUEST.filter(resource="labels")))
    if role == "operator":
        everything = subjects.subject("#")  # an operator watches and records every topic; on MQTT '#' matches the root
        subscribe += [everything, everything.removesuffix(".>")]
    if any(subject.startswith(subjects.subject("status") + ".") for subject in subscribe):
        # '#' matches its parent too; without it SUBACK is 128
        subscribe += [subjects.subject("status"), subjects.subject("status/#")]
    if subjects.subject("reply/+/+") in subscribe:
        subscribe.append(subjects.subject("reply/#"))
    if place == "cloud":
        if role in ("user", "participant", "operator"):
            subscribe.append(f"{inbox_of(require_label(login, 'login'))}.>")
        if role == "newcomer":  # what one is told is of use to the holder of a key alone
            subscribe.append(f"{inbox_of(NEWCOMER)}.>")
        more_publish, more_subscribe = _jetstream(role, subjects, edge)
        publish += more_publish
        subscribe += more_subscribe
    return Permissions(tuple(publish), tuple(subscribe), ("$MQTT.>",) if publish else (">",))


def requests_of(chosen: Callable[[Verb], bool]) -> list[str]:
    """Return the addresses of the requests whose declaration is chosen."""
    features = declared().features.items()
    verbs = [(plural, verb) for plural, feature in features for verb in feature.own_verbs.values()]
    return [REQUEST.at(resource=plural, verb=verb.name) for plural, verb in verbs if chosen(verb)]


def inbox_of(name: str) -> str:
    """Return the inbox prefix of an edge's agent, by its edge, or of a login; nobody else may subscribe there."""
    return f"_INBOX.{name}"


def inbox_of_login(user: str) -> str:
    """Return the inbox prefix of a connection with this login; that of everybody where no prefix can be made of it."""
    return inbox_of(user) if is_label(user) else "_INBOX"


def agent_login(edge: str) -> str:
    """Return the login of an edge's agent; ``agent_of`` reads the edge from it."""
    return f"{_AGENT}{edge}"


def agent_of(login: str) -> str:
    """Return the edge of the agent with a login; empty for any other login."""
    return _after(_AGENT, login)


def site_login(site: str) -> str:
    """Return the login by which a site's server is linked to the cloud."""
    return f"{_SITE}{site}"


def is_site(login: str) -> bool:
    """Return whether a login is that of a site's server."""
    return login.startswith(_SITE)


def participant_login(name: str) -> str:
    """Return the login of a participant that trains by itself; ``participant_of`` reads its name from it."""
    return f"{_PARTICIPANT}{name}"


def participant_of(login: str) -> str:
    """Return the name of the participant with a login; empty for any other login."""
    return _after(_PARTICIPANT, login)


def worker_login(name: str) -> str:
    """Return the login of a launch of this worker: no other component's, whatever the worker's name."""
    return f"{_WORKER}{name}"


def upload_bucket(edge: str) -> str:
    """Return the name of the bucket for what an edge or a participant has made. An update of an edge's own training
    lies on the edge's disk instead, under the same name."""
    return f"{_UPLOADS}{edge}"


def is_upload_bucket(bucket: str) -> bool:
    """Return whether this bucket is for what some edge has made."""
    return bucket.startswith(_UPLOADS)


def edge_of_bucket(bucket: str) -> str | None:
    """Return the edge that has made what is in this bucket; None where it is no such bucket."""
    return bucket.removeprefix(_UPLOADS) if is_upload_bucket(bucket) else None


def _after(prefix: str, login: str) -> str:
    name = login.removeprefix(prefix)
    return name if name != login and is_label(name) else ""


def carries(topic: Topic[Any], place: Place) -> bool:
    """Return whether the place's broker carries a topic. The cloud's agent and its workers use node-only topics too."""
    of_node = topic.node_only or topic.bridged != "no" or "anonymous" in topic.publishers
    return place == "cloud" or of_node or topic.delivery in ("status", "request")


def _jetstream(role: Role, subjects: Subjects, edge: str) -> tuple[list[str], list[str]]:
    if role == "operator":
        of_all = (buckets.MODELS, buckets.PACKAGES, buckets.DATASETS, buckets.SHARDS)
        shared = [subjects.stream_name(each) for each in of_all]
        return ["$JS.API.>", *(f"$O.{each}.>" for each in shared), "$JS.ACK.>"], []
    if role == "agent":
        api = [
            _last_event(subjects, TASK, edge),
            *(_last_event(subjects, topic, edge) for topic in declared().topics if _is_forwarded(topic)),
            f"{inbox_of(edge)}.>",  # to answer another agent of the same name
        ]
        return api, [f"{inbox_of(edge)}.>"]
    return [], []


def _is_forwarded(topic: Topic[Any]) -> bool:
    """Return whether the agent forwards the topic's events from addresses with its edge's name."""
    return topic.stream is not None and topic.bridged == "up" and "edge" in topic.params


def _last_event(subjects: Subjects, topic: Topic[Any], edge: str) -> str:
    """Return the subject that reads the last event of each address with the edge's name."""
    stream = subjects.stream_name(topic.stream_name)
    return f"$JS.API.DIRECT.GET.{stream}.{subjects.subject(topic.filter(edge=edge))}"
