"""Why a worker's pod does not run, from its status: for the condition of the job or service. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MAX_MESSAGE = 400
"""Characters of Kubernetes' own message that are shown, at most."""
_NOT_STARTED = frozenset((
    "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
    "RegistryUnavailable", "CreateContainerError", "CreateContainerConfigError", "RunContainerError",
    "CrashLoopBackOff",
))  # fmt: skip
"""Reasons of a container that waits, and will not start by waiting."""


def pull_problem(pod: Mapping[str, Any]) -> str:
    """Return why a pod does not run, such as an image that cannot be pulled, in a sentence; empty where nothing is
    wrong. What is missing in the document, or has another form, tells nothing."""
    status = pod.get("status")
    if not isinstance(status, Mapping):
        return ""
    for state, image, before in _containers(status):
        reason = state.get("reason")
        if reason in _NOT_STARTED:
            told = _message(state)
            ended = before.get("reason") if reason == "CrashLoopBackOff" else None
            why = f"; it ended with {ended}, exit code {before.get('exitCode')}" if ended else ""
            return f"{_name(pod)}: image {image}: {reason}{told}{why}"
    for each in _mappings(status.get("conditions")):
        if (each.get("type"), each.get("status"), each.get("reason")) == ("PodScheduled", "False", "Unschedulable"):
            return f"{_name(pod)}: Unschedulable{_message(each)}"
    return ""


def _containers(status: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str, Mapping[str, Any]]]:
    """Yield what each container waits for, its image, and its last end."""
    for each in (*_mappings(status.get("initContainerStatuses")), *_mappings(status.get("containerStatuses"))):
        state, before = each.get("state"), each.get("lastState")
        waiting = state.get("waiting") if isinstance(state, Mapping) else None
        ended = before.get("terminated") if isinstance(before, Mapping) else None
        if isinstance(waiting, Mapping):
            yield waiting, str(each.get("image", "?"))[:512], ended if isinstance(ended, Mapping) else {}


def _mappings(given: Any) -> list[Mapping[str, Any]]:
    return [each for each in given if isinstance(each, Mapping)] if isinstance(given, list) else []


def _message(given: Mapping[str, Any]) -> str:
    text = " ".join(str(given.get("message") or "").split())
    return f": {text[:MAX_MESSAGE]}" if text else ""


def _name(pod: Mapping[str, Any]) -> str:
    metadata = pod.get("metadata")
    return f"pod {metadata.get('name', '?')}" if isinstance(metadata, Mapping) else "pod"
