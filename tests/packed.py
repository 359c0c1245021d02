"""Packages of code for tests, as ``pack`` makes them."""

from __future__ import annotations

import io
from collections.abc import Mapping

from heliograph.algorithm_files import Package
from heliograph.bus.contract.package_file import Content, dump_manifest, write_package
from heliograph.bus.contract.payloads import PackageSpec
from heliograph.bus.contract.resources import PackageManifest
from heliograph.core.package_paths import MANIFEST


def packed(files: Mapping[str, bytes] | None = None, entry_point: str = "train.py", **manifest: object) -> Package:
    """Return a package of these files, by default one script."""
    made = PackageManifest.model_validate({"entryPoint": entry_point, **manifest})
    contents = {name: Content(data) for name, data in (files or {"train.py": b"print('trained')\n"}).items()}
    target = io.BytesIO()
    write_package({**contents, MANIFEST: Content(dump_manifest(made))}, target)
    return Package(target.getvalue(), made, len(contents) + 1)


def spec_of(package: Package, **changes: object) -> PackageSpec:
    """Return a package as an agent gets it."""
    fields = {"algorithm": "digits", "digest": package.digest, "size": len(package.content)}
    return PackageSpec.model_validate({**fields, **changes})
