"""Find out what whoever asks may do, by the login that the broker names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from heliograph.bus.contract.permissions import NEWCOMER, OPERATOR, participant_of
from heliograph.bus.contract.resources import User
from heliograph.bus.contract.scopes import DEFAULT_PROJECT, Scope
from heliograph.coordinator.authorization.rights import EVERYTHING, Rights
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Refused
from heliograph.core.names import LABEL_RULE, is_label

NO_SCOPE = "none"


@dataclass(frozen=True)
class Grants:
    """What those may do who are nobody's in particular, by project.

    Attributes:
        unnamed: logins that no User names.
        external: clients of external MQTT brokers, which tell of nobody who asks.
    """

    unnamed: Mapping[str, Scope] = field(default_factory=lambda: {DEFAULT_PROJECT: "submitter"})
    external: Mapping[str, Scope] = field(default_factory=lambda: {DEFAULT_PROJECT: "admin"})


class Callers:
    """Tells what callers may do."""

    def __init__(self, store: ResourceStore, grants: Grants) -> None:
        self._store = store
        self._external = Rights(scopes=grants.external)
        self._unnamed = grants.unnamed

    def rights(self, sender: str | None, external: bool = False) -> Rights:
        """Return what a caller may do.

        Args:
            sender: the login that the broker names. It names none where the broker's own rules alone decide who may
                ask: within the account of the cloud's own components, of which the operator alone may, and on a broker
                without accounts.
            external: whether the request comes by an external MQTT broker.
        """
        if external:
            return self._external
        if sender is None or sender == OPERATOR:
            return EVERYTHING
        if participant_of(sender):
            return Rights(sender, participates=True)
        if sender == NEWCOMER:
            return Rights()
        user = self._store.get(User, sender)
        return Rights(sender, self._unnamed if user is None else user.spec.scopes)


def parse_grant(text: str, field: str) -> Mapping[str, Scope]:
    """Return the scope by project of ``SCOPE``, ``SCOPE@PROJECT`` or ``none``. Raise Refused for other texts."""
    if text == NO_SCOPE:
        return {}
    scope, at, project = text.partition("@")
    known = get_args(Scope)
    if scope not in known or (at and not is_label(project)):
        raise Refused("invalid", field=field, got=text, expected=f"none, or SCOPE or SCOPE@PROJECT with a scope of "
                      f"{', '.join(known)}; a project is {LABEL_RULE}")  # fmt: skip
    return {project or DEFAULT_PROJECT: known[known.index(scope)]}
