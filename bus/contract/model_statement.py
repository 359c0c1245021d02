"""What is signed about a version of a model: an in-toto statement, as OpenSSF model signing defines it.

The statement names two files by their SHA-256: the weights, and ``model.json``, the record of where they come from. An
export writes both beside ``model.sig``, so that anybody may check it: ``model_signing verify key FOLDER --signature
FOLDER/model.sig --public_key KEY``. See https://github.com/ossf/model-signing-spec.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.resources.model import Model, ModelLabels, ModelVersion
from heliograph.core.errors import Refused
from heliograph.core.signing import Envelope, Signer, verify

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
RECORD_FILE, SIGNATURE_FILE = "model.json", "model.sig"
_UNSIGNED = (SIGNATURE_FILE,)


def weights_file(weights: WeightsRef) -> str:
    """Return the name of a version's weights in statements and exports. It says the format, which is signed with it."""
    return f"model.{weights.format}"


def record_of(name: str, version: ModelVersion, labels: ModelLabels | None) -> str:
    """Return the text of ``model.json``: the version's facts, in one order, without where its bytes lie."""
    tree = version.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"signature", "weights"})
    tree |= {"model": name, "digest": version.weights.digest, "size": version.weights.size}
    if labels is not None:
        tree["labels"] = labels.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def labels_of(model: Model, version: ModelVersion) -> ModelLabels | None:
    """Return the label schema of a version; of the declared weights it is the model's own."""
    return model.status.label_schemas.get(version.label_schema) if version.version else model.spec.label_schema


def signed(name: str, version: ModelVersion, labels: ModelLabels | None, signer: Signer) -> ModelVersion:
    """Return the version with the signature of a key."""
    statement = _statement(name, version.weights, record_of(name, version, labels))
    return version.model_copy(update={"signature": signer.sign(PAYLOAD_TYPE, statement)})


def is_signed(name: str, version: ModelVersion, labels: ModelLabels | None, signer: Signer) -> bool:
    """Return whether a version has the signature of that key, about what it says now."""
    envelope = version.signature
    if envelope is None or signer.key_id not in [each.keyid for each in envelope.signatures]:
        return False
    return envelope.payload == _statement(name, version.weights, record_of(name, version, labels))


def check_signature(envelope: Envelope, weights: WeightsRef, trusted: Mapping[str, str]) -> None:
    """Raise Refused unless a trusted key has signed a statement about these weights."""
    _, files = files_in(verify(envelope, trusted, PAYLOAD_TYPE))
    found = files.get(weights_file(weights), "")
    if found != weights.digest:
        raise Refused("bad-signature", field="signature", expected=f"a statement about weights {weights.digest[:12]}",
                      got=f"one about {found[:12] or 'other files'}")  # fmt: skip


def files_in(payload: bytes) -> tuple[str, dict[str, str]]:
    """Return the name of the model that a signed statement is about, and the SHA-256 of each of its files.

    Raise Refused where a trusted key has signed something else.
    """
    try:
        tree = json.loads(payload)
        if (tree["_type"], tree["predicateType"]) == (STATEMENT, PREDICATE):
            files = {str(each["name"]): str(each["digest"]) for each in tree["predicate"]["resources"]}
            if len(files) == len(tree["predicate"]["resources"]):
                return str(tree["subject"][0]["name"]), files
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        pass
    raise Refused("bad-signature", field="payload", expected="a statement of OpenSSF model signing",
                  got="another statement")  # fmt: skip


def bundle_of(envelope: Envelope) -> dict[str, Any]:
    """Return the Sigstore bundle with an envelope, which model signing's tools read; it names the key as they do."""
    tree = envelope.model_dump(mode="json")
    tree["signatures"] = [{"sig": each["sig"], "keyid": ""} for each in tree["signatures"]]
    key = {"publicKey": {"hint": envelope.signatures[0].keyid}, "tlogEntries": []}
    return {"mediaType": BUNDLE, "verificationMaterial": key, "dsseEnvelope": tree}


def _statement(name: str, weights: WeightsRef, record: str) -> bytes:
    digests = {RECORD_FILE: hashlib.sha256(record.encode()).hexdigest(), weights_file(weights): weights.digest}
    files = sorted(digests.items())
    whole = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in files)).hexdigest()
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": whole}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(_UNSIGNED),
            },
            "resources": [{"name": file, "algorithm": "sha256", "digest": digest} for file, digest in files],
        },
    }
    return json.dumps(statement, separators=(",", ":")).encode()
