"""The paths of an API server's objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from heliograph.coordinator.kubernetes.api import Kind
from heliograph.core.errors import Refused

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.:]{0,251}[A-Za-z0-9])?")
"""What names of objects are made of. Nothing in it has a meaning in a path."""


def path_of(kind: Kind, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """Return the path of an object, or of all objects of a kind. Raise Refused where a name is none."""
    parts = ["apis", kind.group, kind.version] if kind.group else ["api", kind.version]
    if namespace:
        parts += ["namespaces", _checked("namespace", namespace)]
    parts.append(kind.plural)
    if name:
        parts.append(_checked("name", name))
    if subresource:
        parts.append(subresource)
    return "/" + "/".join(quote(part, safe="") for part in parts)


def query_of(fields: Mapping[str, str | int]) -> str:
    """Return a query of those fields that are not empty."""
    text = urlencode({key: value for key, value in fields.items() if value != ""})
    return f"?{text}" if text else ""


def _checked(field: str, name: str) -> str:
    if not _NAME.fullmatch(name) or ".." in name:
        raise Refused("invalid", topic="kubernetes", field=f"metadata.{field}", expected="a name of Kubernetes",
                      got=name)  # fmt: skip
    return name
