"""What a caller may do, to which resources. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heliograph.bus.contract.features import ANYONE, WRITES, Verb
from heliograph.bus.contract.request_bodies import RequestBody
from heliograph.bus.contract.resources import Resource
from heliograph.bus.contract.scopes import DEFAULT_PROJECT, SCOPES, Scope, covers
from heliograph.core.errors import Refused


@dataclass(frozen=True, slots=True)
class Rights:
    """What one caller may do.

    Attributes:
        name: the login, where the broker names it; empty where a caller merely claims a name, so that nothing is its
            own.
        scopes: by project.
        participates: whether it is a program that takes part in jobs, and asks for nothing else.
    """

    name: str = ""
    scopes: Mapping[str, Scope] = field(default_factory=dict)
    participates: bool = False

    @property
    def operates(self) -> bool:
        """Whether it may do everything."""
        return "operator" in self.scopes.values()

    def scope_in(self, project: str) -> Scope | None:
        """Return the scope in a project; in the empty one, to which belongs what all projects share, an operator's
        alone."""
        return "operator" if self.operates else self.scopes.get(project)

    def sees(self, resource: Resource) -> bool:
        """Return whether the caller may read a resource: one of its projects, the one about itself, or one that
        everybody reads."""
        if resource.everybody_reads and not resource.project:
            return bool(self.scopes)
        return covers(self.scope_in(resource.project), "viewer") or (
            bool(self.name) and resource.belongs_to == self.name
        )

    def owns(self, resource: Resource) -> bool:
        return bool(self.name) and resource.metadata.created_by == self.name

    def require(self, resource: Resource, needed: Scope, topic: str, owned: bool = False) -> None:
        """Raise Refused unless the caller has a scope in the resource's project.

        Args:
            owned: whether a submitter suffices who owns the resource.
        """
        have = self.scope_in(resource.project)
        if covers(have, needed) or (owned and self.owns(resource) and covers(have, "submitter")):
            return
        expected = f"{needed} in project {resource.project}" if resource.project else "operator"
        if owned and resource.project:
            expected += f", or submitter there and {resource.plural}/{resource.name} its own"
        raise _refused(topic, expected, have, self.name)

    def require_anywhere(self, needed: Scope, topic: str) -> None:
        """Raise Refused unless the caller has a scope in any project."""
        best = max(self.scopes.values(), key=SCOPES.index, default=None)
        if not covers(best, needed):
            raise _refused(topic, f"{needed} in some project", best, self.name)


EVERYTHING = Rights(scopes={DEFAULT_PROJECT: "operator"})


def is_open(rights: Rights, verb: Verb | None) -> bool:
    """Return whether a caller may send a verb about whatever resource there is."""
    return verb is not None and (verb.scope == ANYONE or (rights.participates and verb.participants))


def require_verb(rights: Rights, verb: Verb, found: Resource | None, topic: str) -> None:
    """Raise Refused unless a caller may send a verb that is none of ``WRITES`` about a resource, or about none."""
    if is_open(rights, verb):
        return
    if rights.participates:
        raise Refused("forbidden", topic=topic, field="verb", expected="a request to take part in a job", got=verb.name)
    changes = issubclass(verb.body, RequestBody) and verb.body.changes
    by_rule: Scope = "admin" if changes else "viewer"
    needed = by_rule if verb.scope in (None, ANYONE) else verb.scope
    if found is None:
        rights.require_anywhere(needed, topic)
    elif needed != "viewer":  # who may not read it has not found it
        rights.require(found, needed, topic, owned=changes and verb.scope is None)


def require_write(rights: Rights, verb: str, wanted: Resource, known: Resource | None, topic: str) -> None:
    """Raise Refused unless a caller may create or update a resource.

    Args:
        verb: one of ``WRITES``.
        known: the resource as it is stored; None where there is none.
    """
    assert verb in WRITES
    if rights.participates:
        raise Refused("forbidden", topic=topic, field="verb", expected="a request to take part in a job", got=verb)
    if known is None:
        rights.require(wanted, "submitter" if wanted.of_project else "admin", topic)
    else:
        rights.require(known, "admin", topic, owned=True)
        if known.project != wanted.project:
            raise Refused("immutable", topic=topic, field="metadata.namespace", expected=known.project,
                          got=wanted.project, hint="Delete it, and create it in the other project.")  # fmt: skip


def _refused(topic: str, expected: str, have: Scope | None, name: str) -> Refused:
    who = name or "this caller"
    return Refused("forbidden", topic=topic, field="scope", expected=expected,
                   got=f"{have} for {who}" if have else f"no scope there for {who}",
                   hint="An operator changes it: heliograph user grant NAME SCOPE --project PROJECT.")  # fmt: skip
