"""The coordinator's public keys that a node obeys: its file of them is read again when it has changed."""

from __future__ import annotations

import contextlib
from pathlib import Path

from heliograph.core.ed25519_signer import public_keys
from heliograph.core.errors import Refused


class PinnedKeys:
    """Public keys, one of which signs what is desired of this node; without any, unsigned documents hold.

    Args:
        file: their file, which the renewal of a login or the node's operator changes. Where it cannot be read any more,
            the keys that it had hold: a node never obeys more than it did because of a damaged file.
        keys: the keys, where there is no file.

    Raises:
        Refused: where the file has no such keys.
        OSError: where it cannot be read.
    """

    def __init__(self, file: Path | None = None, keys: frozenset[bytes] = frozenset()) -> None:
        self._file = file
        self._keys = keys if file is None else public_keys(file)
        self._read = _state_of(file)

    @property
    def keys(self) -> frozenset[bytes]:
        """The keys as they are now."""
        if self._file is not None and (now := _state_of(self._file)) not in (self._read, None):
            with contextlib.suppress(Refused, OSError):
                self._keys, self._read = public_keys(self._file), now
        return self._keys


def _state_of(file: Path | None) -> tuple[int, int, int] | None:
    """Return what differs once a file has been written or replaced; None where there is none."""
    try:
        found = file.stat() if file is not None else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found is not None else None
