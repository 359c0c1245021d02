"""What the API server refuses of a pod's spec, and what it leaves out, as far as workers' pods are concerned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.kubernetes.api_server.failure import Cause


def wrong_mounts(spec: dict[str, Any], path: str) -> Iterator[Cause]:
    """Yield a cause for each mount of a volume that the pod does not have.

    Args:
        spec: spec of the pod, or of the template of a Job's.
        path: where the spec is in its object.
    """
    known = {each["name"] for each in spec.get("volumes", ())}
    for number, container in enumerate(spec.get("containers", ())):
        for place, mount in enumerate(container.get("volumeMounts", ())):
            if mount["name"] not in known:
                yield Cause("FieldValueNotFound", f'Not found: "{mount["name"]}"',
                            f"{path}.containers[{number}].volumeMounts[{place}].name")  # fmt: skip


def without_empty(given: Any) -> Any:
    """Return a spec without the lists and texts that are empty: the API server does not keep them."""
    if isinstance(given, dict):
        return {key: without_empty(each) for key, each in given.items() if each not in (None, "", [])}
    return [without_empty(each) for each in given] if isinstance(given, list) else given
