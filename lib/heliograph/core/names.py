"""Names: every word of a topic is a DNS label, so that it reads the same on MQTT, on NATS and in Kubernetes."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from heliograph.core.errors import Refused

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
CLOUD = "cloud"
"""Name of the agent that runs the cloud's own workers."""
LABEL_RULE = "a DNS label: a-z, 0-9 and '-', at most 63 characters, not starting or ending with '-'"


def is_label(text: object) -> bool:
    """Return whether ``text`` is a DNS label (RFC 1123)."""
    return isinstance(text, str) and len(text) <= 63 and _is_label(text)


@lru_cache(maxsize=32768)  # every message repeats the same names of a fleet
def _is_label(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None


def check_label(text: str) -> str:
    """Return ``text``. Raise ValueError if it is no DNS label."""
    if not is_label(text):
        raise ValueError(f"expected {LABEL_RULE}")
    return text


def is_digest(text: object) -> bool:
    """Return whether ``text`` is a SHA-256 in lower-case hexadecimal."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def _check_digest(text: str) -> str:
    if not is_digest(text):
        raise ValueError("expected a SHA-256 as 64 lower-case hexadecimal digits")
    return text


LABEL_SCHEMA = {"type": "string", "pattern": f"^{_LABEL.pattern}$", "maxLength": 63}
DIGEST_SCHEMA = {"type": "string", "pattern": f"^{_DIGEST.pattern}$"}
Label = Annotated[str, AfterValidator(check_label), WithJsonSchema(LABEL_SCHEMA)]
LabelOrEmpty = Annotated[
    str, AfterValidator(lambda text: text and check_label(text)),
    WithJsonSchema({"type": "string", "pattern": f"^({_LABEL.pattern})?$", "maxLength": 63}),
]  # fmt: skip
Digest = Annotated[str, AfterValidator(_check_digest), WithJsonSchema(DIGEST_SCHEMA)]


def join_labels(*parts: str) -> str:
    """Join labels into one, ``job-worker`` for example; a hash keeps a shortened result distinct."""
    text = "-".join(parts)
    if len(text) <= 63:
        return text
    return f"{text[:50].rstrip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def label_from(text: str) -> str:
    """Return a label made from a machine's name, which may hold dots and capitals: ``Edge-7.hall.example`` for example.
    A name that is a label is its own; another gets a hash, so that no two names give the same one."""
    return text if is_label(text) else hashed_label(text, text, "node")


def hashed_label(readable: str, identity: str, otherwise: str) -> str:
    """Return a label with what can be read of ``readable``, and a hash of ``identity``.

    Args:
        otherwise: the word where nothing of ``readable`` may stand in a label.
    """
    words = re.sub(r"[^a-z0-9]+", "-", readable.lower()).strip("-")
    digest = hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{words[:50].rstrip('-') or otherwise}-{digest}"


def require_label(text: str, what: str) -> str:
    """Return ``text``. Raise Refused naming the field ``what`` if it is no DNS label."""
    if not is_label(text):
        raise Refused("invalid", field=what, expected=LABEL_RULE, got=text)
    return text


def matches(pattern: str, topic: str) -> bool:
    """Return whether an MQTT pattern matches a topic."""
    words = topic.split("/")
    wanted = pattern.split("/")
    for index, word in enumerate(wanted):
        if word == "#":
            return True
        if index >= len(words) or word not in ("+", words[index]):
            return False
    return len(words) == len(wanted)
