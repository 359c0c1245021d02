"""Label and field selectors of lists and watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heliograph.core.errors import Refused
from heliograph.core.selector import Selector
from tests.kubernetes.api_server.failure import bad_request

Object = dict[str, Any]
FIELDS = ("metadata.name", "metadata.namespace", "involvedObject.name", "involvedObject.namespace",
          "involvedObject.kind", "involvedObject.uid", "spec.nodeName", "status.phase")  # fmt: skip


def selection(labels: str, fields: str) -> Callable[[Object], bool]:
    """Return what tells whether an object is selected. Raise Failure where a selector does not parse."""
    try:
        selector = Selector.parse(labels)
    except Refused as error:
        raise bad_request(f"unable to parse requirement: {error}") from None
    wanted = [_requirement(part) for part in fields.split(",") if part]

    def selected(given: Object) -> bool:
        return selector.matches(given["metadata"].get("labels") or {}) and all(
            (_value(given, path) == value) is equal for path, value, equal in wanted
        )

    return selected


def _requirement(part: str) -> tuple[str, str, bool]:
    path, sign, value = part.partition("=")
    equal = not path.endswith("!")
    path = path.removesuffix("!")
    if not sign or path not in FIELDS:
        raise bad_request(f'field label not supported: "{path}"')
    return path, value.removeprefix("="), equal


def _value(given: Object, path: str) -> str:
    found: Any = given
    for name in path.split("."):
        found = found.get(name, "") if isinstance(found, dict) else ""
    return str(found)
