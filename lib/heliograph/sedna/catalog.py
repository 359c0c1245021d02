"""Sedna's Dataset and Model: where samples and weights lie."""

from __future__ import annotations

from typing import Any, get_args

from heliograph.bus.contract.resources.dataset import Format
from heliograph.sedna.fields import Fields
from heliograph.sedna.settings import Settings

_CREDENTIALS = "no document holds a credential, and edges fetch from no store of others"


def dataset(spec: Fields, name: str, settings: Settings) -> list[tuple[str, str, dict[str, Any]]]:
    """Return our Dataset."""
    found: dict[str, Any] = {}
    if node := spec.text("nodeName"):
        found["nodeName"] = settings.node(node) or spec.label("nodeName")
    url = spec.text("url")
    if "://" in url and not url.startswith("file://"):
        spec.drop(f"edges read files below their data roots (--data): fetch it there, or upload it with 'heliograph "
                  f"datasets push {name} PATH'", "url")  # fmt: skip
    elif url:
        found["url"] = url
    given = spec.text("format")
    if given in get_args(Format):
        found["format"] = given
    elif given:
        known = ", ".join(get_args(Format))
        spec.drop(f"formats are {known}; without one the file's content and ending decide", "format")
    spec.drop(_CREDENTIALS, "credentialName")
    spec.drop_rest()
    return [("Dataset", name, found)]


def model(spec: Fields, name: str, settings: Settings) -> list[tuple[str, str, dict[str, Any]]]:
    """Return our Model, without weights: they become a version of it."""
    why = f"weights are versions of the model: 'heliograph models upload {name} FILE', of safetensors, ONNX or TFLite"
    spec.drop(why, "url", "format")
    spec.drop(_CREDENTIALS, "credentialName")
    spec.drop_rest()
    return [("Model", name, {})]
