"""The accounts of a cloud's broker in operator mode: what crosses their borders, and what their users may do.

All is derived from the topic registry, by way of ``permissions``: what a login's permissions name below the root, and
what it may read of streams, is what its account imports. So a new topic needs nothing here.

- ``CORE`` has every stream and bucket: coordinator, operator, the cloud's own agent and workers.
- ``DOOR`` is that of MQTT clients and of anonymous ones. MQTT has no reply subjects that a client could forge, so that
  permissions on subjects hold there.
- An account for each edge, participant and user on NATS. NATS does not check reply subjects: whoever forges one reaches
  subjects of the own account alone, which has no streams.
- ``ENROL`` is that of nodes without a login, which may ask for one and nothing else.
- ``GUESTS`` is where clients without a token land until the auth callout has decided about them.
- ``SYS`` is the server's: presence.

A node's broker has one account, ``NODE``, in which permissions keep its users apart: they come by MQTT, which has no
reply subject that a client could forge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from heliograph.bus.contract.launch_permissions import Launch, launch_permissions
from heliograph.bus.contract.permissions import NEWCOMER, Permissions, inbox_of, permissions
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.subjects import Subjects
from heliograph.bus.contract.topics import DEFAULT_ROOT, EDGE, REQUEST, STATUS, Role
from heliograph.core.identity.claims import Allowed, Export, Import
from heliograph.core.names import CLOUD

CORE, DOOR, ENROL, GUESTS, SYSTEM = "CORE", "DOOR", "ENROL", "GUESTS", "SYS"
NODE = "NODE"
NODE_ROLES: tuple[Role, ...] = ("anonymous", "user", "operator", "coordinator", "agent", "worker")
"""Roles with a login on a node's broker."""
CORE_ROLES: tuple[Role, ...] = ("coordinator", "operator", "cloud-worker", "worker", "agent")
"""Roles whose logins on NATS are in CORE; of the agents that of the cloud alone."""
DOOR_ROLES: tuple[Role, ...] = ("coordinator", "operator", "user", "participant", "anonymous")
"""Roles with a login at the MQTT door."""
EDGE_TAG = "edge"
"""Name of the tag with the participant's name in its token at the door, and with the node's in that of a worker."""
WORKER_TAG, JOB_TAG, UID_TAG = "worker", "job", "uid"
"""Names of the tags of a worker's token with its name, and its job's name and uid."""
_OWN: tuple[Role, ...] = ("agent", "user", "participant")
"""Roles whose logins have an account of their own each."""
_NAME, _EDGE, _WORKER, _JOB, _UID = "their-name", "their-edge", "their-worker", "their-job", "their-uid"
"""Names in whose place a wildcard, or a template of the server, is put."""
_LAUNCH = Launch(_WORKER, _JOB, _UID, _EDGE, _NAME)
_OF_LAUNCH = {_NAME: "{{name()}}"} | {
    name: f"{{{{tag({tag})}}}}"
    for name, tag in ((_WORKER, WORKER_TAG), (_JOB, JOB_TAG), (_UID, UID_TAG), (_EDGE, EDGE_TAG))
}
"""What the server puts in place of the names of a launch."""
_READS = "$JS.API.DIRECT.GET."
_INBOX = "_INBOX."


def account_of(role: Role, login: str, edge: str = "") -> str:
    """Return the name of the account that a login on NATS belongs to."""
    if role == "anonymous":
        return DOOR
    if role == "newcomer":
        return ENROL
    if role not in _OWN or (role == "agent" and edge == CLOUD):
        return CORE
    return f"user-{login}" if role == "user" else login


def core_exports(root: str = DEFAULT_ROOT) -> tuple[Export, ...]:
    """Return what CORE offers to every account: the operator signs which account imports what of it."""
    services, streams = _offered(root, (*_OWN, "operator"))
    # the default delivers one answer alone, of a direct get for several messages
    return (
        *(Export(each, "service", "Stream" if each.startswith(_READS) else "Singleton") for each in services),
        *(Export(each, "stream") for each in streams),
    )


def core_imports(door: str, root: str = DEFAULT_ROOT) -> tuple[Import, ...]:
    """Return what CORE imports of the account with the public key ``door``: retained status is published there."""
    return (Import(_status(root), "stream", door),)


def door_exports(root: str = DEFAULT_ROOT) -> tuple[Export, ...]:
    return (Export(_status(root), "stream"),)


def door_imports(core: str, root: str = DEFAULT_ROOT) -> tuple[Import, ...]:
    """Return what DOOR imports for all its users; the permissions of each one say what of it is theirs."""
    return _imports(*_offered(root, [role for role in DOOR_ROLES if role != "coordinator"]), core, "", root)


def imports_of(
    role: Role, core: str, door: str, root: str = DEFAULT_ROOT, *, login: str = "", edge: str = ""
) -> tuple[Import, ...]:
    """Return what the account of one edge, participant or user imports.

    Args:
        core, door: public keys of CORE and DOOR.
        login, edge: see ``permissions``.
    """
    return _imports(*_crossing(role, root, login, edge), core, door, root)


def core_template(role: Role, root: str = DEFAULT_ROOT) -> Allowed:
    """Return what the users of a role may do in CORE; the server puts the name of each into it, and of a worker what
    its tags name."""
    if role == "cloud-worker":
        return _allowed(_filled(launch_permissions("cloud", replace(_LAUNCH, edge=CLOUD), root), _OF_LAUNCH))
    found = permissions(role, "cloud", root, CLOUD if role == "agent" else "", _NAME)
    return _allowed(_filled(found, {_NAME: "{{name()}}"}))


def node_template(role: Role, root: str = DEFAULT_ROOT) -> Allowed:
    """Return what the users of a role may do on a node's broker; the server puts the name of each into it."""
    return _allowed(_filled(permissions(role, "node", root, login=_NAME), {_NAME: "{{name()}}"}))


def node_launch_template(root: str = DEFAULT_ROOT) -> Allowed:
    """Return what a launch of a worker may do on its node's broker; the server puts into it what its tags name."""
    return _allowed(_filled(launch_permissions("node", _LAUNCH, root), _OF_LAUNCH))


def allowed_of(role: Role, root: str = DEFAULT_ROOT, *, login: str = "", edge: str = "") -> Allowed:
    """Return what the logins of a role may publish and subscribe to in an account of their own."""
    return _allowed(permissions(role, "cloud", root, edge, login))


def allowed_of_renewal(root: str = DEFAULT_ROOT) -> Allowed:
    """Return what those without a login may at a site's server: renew one that has expired. They do not enrol there:
    the first answer says whom a node trusts from then on, and the site's server could send another."""
    renew = Subjects(root).subject(REQUEST.at(resource="invitations", verb="renew"))
    return Allowed((renew,), (f"{inbox_of(NEWCOMER)}.>",), ("$MQTT.>",))


def door_template(role: Role, root: str = DEFAULT_ROOT) -> Allowed:
    """Return what the users of a role may do in DOOR; the server puts the name of each into it (a participant's is its
    tag ``edge``)."""
    found = permissions(role, "cloud", root, _EDGE if role == "participant" else "", _NAME)
    publish = tuple(each for each in found.publish if not each.startswith("$"))  # DOOR has no streams of ours
    names = {_NAME: "{{name()}}", _EDGE: f"{{{{tag({EDGE_TAG})}}}}"}
    return _allowed(_filled(Permissions(publish, found.subscribe, found.deny), names))


def _crossing(role: Role, root: str, login: str, edge: str) -> tuple[list[str], list[str]]:
    """Return the subjects of a login that cross the border of its account: those that it sends to, and those that it
    subscribes to."""
    found = permissions(role, "cloud", root, edge if role in ("agent", "participant") else "", login)
    below = Subjects(root).subject("")
    publish = [each for each in found.publish if each.startswith(below) or (role == "agent" and each[0] == "$")]
    subscribe = [each for each in found.subscribe if each.startswith(below)]
    if role == "operator":  # who watches everything watches each word: status comes from DOOR, requests from the asker
        apart = (STATUS.words[0], REQUEST.words[0])
        words = {topic.words[0] for topic in declared().topics} - set(apart)
        subscribe = [below + f"{word}.>" for word in sorted(words)] + [_status(root)]
    if role != "agent":
        return _outermost(publish), _outermost(subscribe)
    local = set(publish) & set(subscribe)  # agents of one name talk to each other there
    return (
        _outermost(_grouped(each, below) for each in publish if each not in local),
        _outermost(_grouped(each, below) for each in subscribe if each not in local),
    )


def _offered(root: str, roles: Iterable[Role]) -> tuple[list[str], list[str]]:
    """Return what CORE offers to logins of these roles, whatever their names."""
    names = {_NAME: "*", _EDGE: "*"}
    crossings = [_crossing(role, root, _NAME, _EDGE) for role in roles]
    services = _outermost(_put(each, names) for services, _ in crossings for each in services)
    streams = _outermost(_put(each, names) for _, streams in crossings for each in streams)
    return services, [each for each in streams if not _is_status(each, root)]


def _imports(
    services: Sequence[str], streams: Sequence[str], core: str, door: str, root: str
) -> tuple[Import, ...]:  # fmt: skip
    asks = Subjects(root).subject(f"{REQUEST.words[0]}/")
    found = [Import(each, "service", core, share=each.startswith(asks)) for each in services]
    found += [Import(each, "stream", core) for each in streams if not _is_status(each, root)]
    if door and any(_is_status(each, root) for each in streams):
        found.append(Import(_status(root), "stream", door))
    return tuple(found)


def _grouped(subject: str, below: str) -> str:
    """Return the subject of all that is an edge's own in one direction, or of all its last events, for one of them."""
    reads, at, topic = subject.rpartition(below)
    words = topic.split(".")
    if words[0] != EDGE or len(words) < 4:
        return subject
    return f"{_READS}*.{at}{words[0]}.{words[1]}.>" if reads else f"{at}{'.'.join(words[:3])}.>"


def _outermost(subjects: Iterable[str]) -> list[str]:
    """Return the subjects that no other one of them contains, each once."""
    every = list(dict.fromkeys(subjects))
    return [each for each in every if not any(other != each and _contains(other, each) for other in every)]


def _contains(outer: str, inner: str) -> bool:
    ours, theirs = outer.split("."), inner.split(".")
    for place, word in enumerate(ours):
        if word == ">":
            return len(theirs) > place
        if place >= len(theirs) or word not in ("*", theirs[place]) or (word == "*" and theirs[place] == ">"):
            return False
    return len(ours) == len(theirs)


def _filled(found: Permissions, names: dict[str, str]) -> Permissions:
    publish = tuple(_put(each, names) for each in found.publish)
    return Permissions(publish, tuple(_put(each, names) for each in found.subscribe), found.deny, found.answers)


def _put(subject: str, names: dict[str, str]) -> str:
    return ".".join(next((new for name, new in names.items() if name in word), word) for word in subject.split("."))


def _status(root: str) -> str:
    return Subjects(root).subject("status/#")


def _is_status(subject: str, root: str) -> bool:
    return subject == Subjects(root).subject("status") or subject.startswith(Subjects(root).subject("status/"))


def _allowed(found: Permissions) -> Allowed:
    return Allowed(found.publish, found.subscribe, found.deny, answers=found.answers)
