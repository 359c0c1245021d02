"""A version as a folder: ``model.safetensors`` (or ``.onnx``, ``.tflite``), its record ``model.json``, and the
signature of both, ``model.sig``.

The signature is a Sigstore bundle as OpenSSF model signing writes it. Beside ``verify_folder`` its own tool checks it:
``model_signing verify key FOLDER --signature FOLDER/model.sig --public_key KEY``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from heliograph.bus.contract.model_requests import ModelExport
from heliograph.bus.contract.model_statement import (
    PAYLOAD_TYPE,
    RECORD_FILE,
    SIGNATURE_FILE,
    bundle_of,
    files_in,
    weights_file,
)
from heliograph.core.errors import Refused
from heliograph.core.signing import MOST_BYTES, Envelope, verify
from heliograph.exports import parent_of, require_free


def write_folder(export: ModelExport, weights: Path, target: Path) -> Path:
    """Write a version as the folder ``target``, all of it or nothing. Move the file ``weights`` into it. Return
    ``target``.

    Raise Refused where ``target`` exists already.
    """
    with new_folder(target) as folder:
        (folder / RECORD_FILE).write_text(export.record, encoding="utf-8")
        if export.version.signature is not None:
            text = json.dumps(bundle_of(export.version.signature), indent=1)
            (folder / SIGNATURE_FILE).write_text(text + "\n", encoding="utf-8")
        shutil.move(weights, folder / weights_file(export.version.weights))
    return target


def verify_folder(folder: Path, trusted: Mapping[str, str]) -> str:
    """Return the name of the model in a folder, whose files are those that a trusted key has signed.

    Raise Refused where they are not, or the folder has other files.
    """
    place = str(folder)
    try:
        with (folder / SIGNATURE_FILE).open("rb") as source:
            tree = json.loads(source.read(4 * MOST_BYTES))
        envelope = Envelope.model_validate(tree["dsseEnvelope"])
    except FileNotFoundError:
        raise Refused("bad-signature", topic=place, expected=f"a signature, the file {SIGNATURE_FILE}",
                      got="none", hint="A coordinator signs versions that has a --signing-key.") from None  # fmt: skip
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError):
        raise Refused("bad-signature", topic=place, field=SIGNATURE_FILE, expected="a Sigstore bundle with an envelope",
                      got="something else") from None  # fmt: skip
    try:
        name, files = files_in(verify(envelope, trusted, PAYLOAD_TYPE))
    except Refused as error:
        raise error.about(place) from None
    there = {path.name for path in folder.iterdir()} - {SIGNATURE_FILE}
    if there != files.keys():
        raise Refused("bad-signature", topic=place, expected=f"the signed files: {', '.join(sorted(files))}",
                      got=", ".join(sorted(there)))  # fmt: skip
    for file, digest in sorted(files.items()):
        with (folder / file).open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != digest:
            raise Refused("damaged", topic=place, field=file, expected=f"SHA-256 {digest}, which was signed", got=found,
                          hint="Export the version again.")  # fmt: skip
    return name


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes ``target`` unless an error is raised. Raise Refused where that exists."""
    require_free(target)
    parent_of(target)
    filling = target.with_name(f".{target.name}.part")
    shutil.rmtree(filling, ignore_errors=True)
    filling.mkdir()
    try:
        yield filling
        filling.rename(target)
    finally:
        shutil.rmtree(filling, ignore_errors=True)
