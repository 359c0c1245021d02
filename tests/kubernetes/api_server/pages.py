"""Lists in pages: what follows a page is that which the list had when it began."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from tests.kubernetes.api_server.failure import bad_request, expired
from tests.kubernetes.api_server.kinds import Served
from tests.kubernetes.api_server.store import Store

Object = dict[str, Any]


class Pages:
    """Lists objects, and remembers the rest of lists that are asked for in pages."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rests: dict[str, tuple[int, list[Object]]] = {}

    def list(self, kind: Served, namespace: str, selected: Callable[[Object], bool], limit: int, token: str) -> Object:
        """Return a list, or a page of one."""
        if token:
            if (rest := self._rests.pop(token, None)) is None:
                raise bad_request("continue key is not valid")
            version, found = rest
            if version < self._store.forgotten:
                raise expired("The provided continue parameter is too old to display a consistent list result. You can"
                              " start a new list without the continue parameter, or use the continue token in this"
                              " response to retrieve the remainder of the results.")  # fmt: skip
        else:
            version = self._store.version
            found = [each for each in self._store.all(kind.resource, namespace) if selected(each)]
        metadata: Object = {"resourceVersion": str(version)}
        if limit and len(found) > limit:
            token = secrets.token_urlsafe(16)
            self._rests[token] = (version, found[limit:])
            metadata |= {"continue": token, "remainingItemCount": len(found) - limit}
            found = found[:limit]
        items = found
        if kind.schema is None:  # those of kinds that are part of the server lack both; custom resources have them
            items = [{key: value for key, value in each.items() if key not in ("apiVersion", "kind")} for each in found]
        return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}
