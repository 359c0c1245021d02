"""Signatures of events: who publishes a fact signs the very bytes that travel.

A signed event is MessagePack and ends with two attributes: ``signedby``, the Ed25519 public key in base64url, and
``signature`` over every byte before it. Its subject lies inside, so that it holds on no other topic.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection

from heliograph.bus.contract.event import SIGNATURE_FIELD, Event
from heliograph.core import ed25519
from heliograph.core.errors import Refused


def check_event_signature(event: Event, body: bytes, topic: str, trusted: Collection[bytes], by: str) -> None:
    """Raise Refused, ``bad-signature``, unless a trusted key has signed the event for the topic that it came on.

    Args:
        trusted: public keys.
        by: who has these keys, for the error.
    """
    expected = f"a signature of {by}: {' or '.join(sorted(shown_key(each) for each in trusted))}"
    public = signer_of(event)
    if public is None or not is_signed(body):
        raise Refused("bad-signature", topic=topic, field="signature", expected=expected, got="none")
    if public not in trusted:
        raise Refused("bad-signature", topic=topic, field="signedby", expected=expected,
                      got=f"one of {shown_key(public)}")  # fmt: skip
    if not holds(body, public):
        raise Refused("bad-signature", topic=topic, field="signature", expected=expected,
                      got="other bytes than those that were signed")  # fmt: skip
    if event.subject != topic:
        raise Refused("bad-signature", topic=topic, field="subject", expected=topic, got=event.subject)


def signer_of(event: Event) -> bytes | None:
    """Return the public key that an event says to be signed by; None if it names none."""
    try:
        public = base64.urlsafe_b64decode(event.signed_by + "=")
    except (ValueError, binascii.Error):
        return None
    return public if len(public) == ed25519.PUBLIC_BYTES else None


def is_signed(body: bytes) -> bool:
    """Return whether an encoded event ends with a signature, right or wrong."""
    cut = len(body) - len(SIGNATURE_FIELD) - ed25519.SIGNATURE_BYTES
    return cut > 0 and body[cut : cut + len(SIGNATURE_FIELD)] == SIGNATURE_FIELD


def holds(body: bytes, public: bytes) -> bool:
    """Return whether the holder of a public key has signed the encoded event."""
    cut = len(body) - len(SIGNATURE_FIELD) - ed25519.SIGNATURE_BYTES
    return is_signed(body) and ed25519.verified(public, body[-ed25519.SIGNATURE_BYTES :], body[:cut])


def shown_key(public: bytes) -> str:
    """Return the beginning of a public key, by which people tell keys apart."""
    return public.hex()[:12]
