"""The TLS context of connections that outlive their files: renewed certificates are used at the next connect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliograph.bus.connection_url import TLS

if TYPE_CHECKING:
    import ssl


class TlsContext:
    """The context of some TLS files, made anew when one of them has changed."""

    def __init__(self, tls: TLS) -> None:
        self._tls = tls
        self._made: ssl.SSLContext | None = None
        self._stamps: list[tuple[int, int, int]] = []

    def current(self) -> ssl.SSLContext:
        """Return the context of the files as they are now. Raise Refused if one is unusable."""
        stamps = self._stamps_now()
        if self._made is None or stamps != self._stamps:
            self._made = self._tls.context()
            self._stamps = stamps
        return self._made

    def _stamps_now(self) -> list[tuple[int, int, int]]:
        found = []
        for file in (self._tls.ca, self._tls.certificate, self._tls.key):
            try:
                stat = file.stat() if file is not None else None
            except OSError:
                stat = None
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size) if stat is not None else (0, 0, 0))
        return found
