"""The statement of an operator that a package of code may run on the edges that trust his key.

It is an in-toto statement (https://in-toto.io/Statement/v1) in a DSSE envelope. Its subject is the package's digest,
which covers the code, the entry point and the parameters. Its type differs from that of a model's statement, so that no
signature of one can be shown for the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from heliograph.core.errors import Refused
from heliograph.core.signing import Envelope, Signer, verify

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://edgeai.io/algorithm-package/v1"


def sign_package(signer: Signer, name: str, digest: str) -> Envelope:
    """Return the signed statement that the package of that digest may run; ``name`` is for people."""
    subject = [{"name": name, "digest": {"sha256": digest}}]
    statement = {"_type": STATEMENT, "subject": subject, "predicateType": PREDICATE, "predicate": {}}
    return signer.sign(PAYLOAD_TYPE, json.dumps(statement, sort_keys=True).encode())


def check_signature(envelope: Envelope, digest: str, trusted: Mapping[str, str]) -> None:
    """Raise Refused unless a trusted key has signed that the package of that digest may run.

    Args:
        trusted: PEM of each trusted public key, by its id.
    """
    payload = verify(envelope, trusted, PAYLOAD_TYPE)
    try:
        statement = json.loads(payload)
        kind, digests = statement["predicateType"], [each["digest"]["sha256"] for each in statement["subject"]]
        typed = statement["_type"] == STATEMENT
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _bad("an in-toto statement", "something else that the key has signed") from None
    if not typed or kind != PREDICATE:
        raise _bad(f"a statement of type {PREDICATE}", kind)
    if digest not in digests:
        raise _bad(f"a statement about package {digest[:12]}", ", ".join(str(each)[:12] for each in digests) or "none")


def claims_trusted(envelope: Envelope, trusted: Mapping[str, str]) -> bool:
    """Return whether an envelope says that a trusted key has signed it."""
    return any(each.keyid in trusted for each in envelope.signatures)


def _bad(expected: str, got: object) -> Refused:
    return Refused("bad-signature", field="signature", expected=expected, got=got)
