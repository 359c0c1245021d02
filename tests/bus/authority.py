"""A throw-away certificate authority, made by the ``openssl`` command."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """A certificate authority; ``ca`` is the path of its certificate."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.ca = directory / "ca.pem"
        self._key = directory / "ca.key"
        extensions = ("-addext", "keyUsage=critical,keyCertSign")
        _openssl("req", "-x509", *_KEY, "-subj", "/CN=test", "-days", "2", "-keyout", self._key, "-out", self.ca,
                 *extensions)  # fmt: skip

    def certificate(self, name: str, san: str) -> tuple[Path, Path]:
        """Return the paths of a new certificate and its key; ``san`` names its host, for example ``DNS:localhost``."""
        certificate, key, request = (self.directory / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={san}\n")
        _openssl("req", "-new", *_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-days", "2",
                 "-extfile", extensions, "-out", certificate)  # fmt: skip
        return certificate, key


def _openssl(*words: str | Path) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
