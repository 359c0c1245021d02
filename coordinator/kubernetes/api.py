"""What the operator asks of a Kubernetes API server: objects as JSON has them, listed, watched and written.

https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Object = dict[str, Any]
"""A Kubernetes object, as JSON has it."""
Objects = list[Object]
Propagation = Literal["Background", "Foreground", "Orphan"]
"""What becomes of an object's dependents when it is deleted."""
WATCH_SECONDS = 290
"""Length of a watch, at most: the server ends it."""


@dataclass(frozen=True)
class Kind:
    """Where objects of a kind live.

    Attributes:
        group: empty for the core group.
    """

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """The ``apiVersion`` of an object."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The name that rights and messages have: ``federatedtasks.edgeai.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


JOBS = Kind("batch", "v1", "jobs", "Job")
PODS = Kind("", "v1", "pods", "Pod")
EVENTS = Kind("", "v1", "events", "Event")
NAMESPACES = Kind("", "v1", "namespaces", "Namespace")
NODES = Kind("", "v1", "nodes", "Node")


@dataclass(frozen=True)
class Change:
    """A line of a watch. A bookmark's object has a version and nothing else."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


class Api(Protocol):
    """A Kubernetes API server.

    All methods raise the errors of ``coordinator.kubernetes.errors``, and ``Unreachable``. An empty namespace means all
    namespaces for ``list`` and ``watch``, and none for kinds that have none.
    """

    async def list(self, kind: Kind, namespace: str = "", labels: str = "") -> tuple[Objects, str]:
        """Return all objects that a label selector selects, and the version of the list. It comes in pages."""
        ...

    def watch(
        self, kind: Kind, version: str, namespace: str = "", labels: str = "", seconds: int = WATCH_SECONDS
    ) -> AsyncGenerator[Change, None]:
        """Yield what changed since a version. It ends when the server ends it, after ``seconds`` or earlier.

        Raise Expired where the server does not remember the version, NotFound where it does not serve the kind.
        """
        ...

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Return one object. Raise NotFound."""
        ...

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        """Create an object, and return it. Raise Exists or Invalid."""
        ...

    async def replace(self, kind: Kind, namespace: str, body: Object) -> Object:
        """Write all but the status. Raise Stale where the object has another ``resourceVersion`` than ``body``."""
        ...

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        """Merge a patch (RFC 7396) into all but the status. Raise Stale as ``replace`` does, if it has a version."""
        ...

    async def replace_status(self, kind: Kind, namespace: str, body: Object) -> Object:
        """Write the status alone. Raise Stale as ``replace`` does."""
        ...

    async def patch_status(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        """Merge a patch into the status alone."""
        ...

    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str = "", propagation: Propagation = "Background"
    ) -> None:
        """Delete an object; with a uid only that one. Raise NotFound, and Stale where another has the name now."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
