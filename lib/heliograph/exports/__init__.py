"""Versions of models in the forms that other programs read: a signed folder, an OCI layout, an MLflow registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.bus.contract.model_requests import ModelExport

Form = Literal["folder", "oci"]
FORMS: tuple[str, ...] = get_args(Form)


def require_free(target: Path) -> None:
    """Raise Refused where a file or folder of that name exists."""
    if target.exists():
        raise Refused("exists", topic=str(target), expected="a name that is free",
                      got="one that is there", hint="Delete it, or name another.")  # fmt: skip


def parent_of(target: Path) -> Path:
    """Return the folder that ``target`` shall lie in, and make it: a file is then moved within one disk."""
    parent = target.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def write_export(export: ModelExport, weights: Path, target: Path, form: str) -> Path:
    """Write a version in a form below ``target``. Move the file ``weights`` there. Return ``target``.

    Raise Refused where ``target`` exists, or there is no such form.
    """
    if form == "folder":
        from heliograph.exports.folder import write_folder

        return write_folder(export, weights, target)
    if form == "oci":
        from heliograph.exports.oci import write_layout

        return write_layout(export, weights, target)
    raise Refused("bad-argument", field="form", expected=" or ".join(FORMS), got=form)
