"""The certificates of a broker of ours, kept in a directory: an authority, the server's certificate, and clients'.

Each is renewed before it ends. Clients trust every authority in ``ca.pem``. A new authority stands there beside the old
one for a month before it signs, so that copies of the file on other machines can follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from heliograph.bus.connection_url import TLS
from heliograph.core.certificates import DAY, Authority, Certificate, read_certificate
from heliograph.core.names import require_label
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import World

AUTHORITY_DAYS = 3650.0
CERTIFICATE_DAYS = 90.0
OVERLAP = 60 * DAY
"""Seconds before an authority's end at which the next one is made. It signs once half of them are over."""
_RENEWED_AT = 1 / 3
"""Part of a certificate's time that is left when it is renewed."""


@dataclass(frozen=True)
class Turn:
    """Which authorities are kept, oldest first, which of them signs, and whether another is to be made."""

    kept: tuple[int, ...]
    signing: int | None
    make: bool


def turn_of(periods: Sequence[tuple[float, float]], now: float) -> Turn:
    """Decide about authorities, each given by when it begins and ends, oldest first."""
    kept = tuple(place for place, (_, ends) in enumerate(periods) if ends > now)[-2:]
    make = not kept or periods[kept[-1]][1] - now < OVERLAP
    kept = kept[-1:] if make else kept
    lasting = [place for place in kept if periods[place][1] - now > OVERLAP / 2]
    return Turn(kept, lasting[0] if lasting else None, make)


def is_due(certificate: Certificate, now: float) -> bool:
    """Return whether a certificate is to be renewed."""
    begins, ends = certificate.period
    return ends - now < (ends - begins) * _RENEWED_AT


class Certificates:
    """The directory of one broker's authority and certificates.

    Args:
        names: host names and IP addresses by which clients reach the server.
        peers: whether the server connects to others by this certificate too.
        carried: whether the authorities come from another machine, which makes the next one.
    """

    def __init__(
        self, directory: Path, names: Iterable[str], world: World, *, peers: bool = False, carried: bool = False
    ) -> None:  # fmt: skip
        self.directory = directory
        self.ca = directory / "ca.pem"
        """The authorities that clients trust."""
        self.server = directory / "server.pem"
        self.server_key = directory / "server.key"
        self._names = frozenset(names)
        self._world = world
        self._peers = peers
        self._carried = carried
        self._clients: set[str] = set()
        self._authorities: dict[int, Authority] = {}
        self._signing: Authority | None = None

    def renew(self) -> bool:
        """Make what is missing, and renew what is to end soon. Return whether a file has changed.

        Raise Refused where a name cannot stand in a certificate, or a file cannot be read.
        """
        make_private(self.directory)
        self._load_authorities()
        changed = self._renew_authorities()
        changed |= self._renew_certificate(self.server, self.server_key, self._issue_server, self._names)
        for name in sorted(self._clients):
            changed |= self._renew_client(name)
        return changed

    def add_authority(self) -> None:
        """Make another authority, which clients trust from now on. It signs once the present one nears its end, or when
        the file of that one, ``authority-N.pem``, has been deleted."""
        self._load_authorities()
        self._make_authority()
        self._write_bundle()

    def client(self, name: str) -> TLS:
        """Return the files with which a client of that name connects; ``renew`` makes them."""
        self._clients.add(require_label(name, "client"))
        return TLS(self.ca, *self._client_files(name))

    def hashes(self) -> list[str]:
        """Return the hashes of the authorities that clients trust, oldest first; see ``Authority.hash``."""
        self._load_authorities()
        return [each.hash for each in self._authorities.values()]

    def _renew_authorities(self) -> bool:
        numbers = list(self._authorities)
        turn = turn_of([each.own.period for each in self._authorities.values()], self._world.now())
        kept = {numbers[place] for place in turn.kept}
        for number in numbers:
            if number not in kept:
                self._file(number).unlink()
                del self._authorities[number]
        signing = None if turn.signing is None else self._authorities[numbers[turn.signing]]
        made = self._make_authority() if turn.make and not (self._carried and kept) else None
        self._signing = signing or made or self._authorities[max(kept)]
        return self._write_bundle()

    def _load_authorities(self) -> None:
        files = {int(file.stem.rpartition("-")[2]): file for file in self.directory.glob("authority-*.pem")}
        self._authorities = {number: Authority(read_certificate(file, file)) for number, file in sorted(files.items())}

    def _make_authority(self) -> Authority:
        number = max(self._authorities, default=0) + 1
        made = self._authorities[number] = Authority.made(self._world, AUTHORITY_DAYS)
        write_private(self._file(number), made.own.certificate + made.own.key)
        return made

    def _file(self, number: int) -> Path:
        return self.directory / f"authority-{number}.pem"

    def _write_bundle(self) -> bool:
        """Write the file that clients read, in place: a worker may read this very file, not one that replaces it."""
        text = "".join(each.own.certificate for each in self._authorities.values())
        if self.ca.exists() and self.ca.read_text() == text:
            return False
        self.ca.touch(mode=0o600)
        with self.ca.open("r+") as target:
            target.write(text)
            target.truncate()
        return True

    def _client_files(self, name: str) -> tuple[Path, Path]:
        return self.directory / f"client-{name}.pem", self.directory / f"client-{name}.key"

    def _renew_client(self, name: str) -> bool:
        def issue(authority: Authority) -> Certificate:
            return authority.client(self._world, name, CERTIFICATE_DAYS)

        return self._renew_certificate(*self._client_files(name), issue, frozenset({name}))

    def _issue_server(self, authority: Authority) -> Certificate:
        issue = authority.peer if self._peers else authority.server
        return issue(self._world, self._names, CERTIFICATE_DAYS)

    def _renew_certificate(
        self, file: Path, key: Path, issue: Callable[[Authority], Certificate], names: frozenset[str]
    ) -> bool:
        assert self._signing is not None
        if file.exists() and key.exists():
            found = read_certificate(file, key)
            if found.names == names and found.is_from(self._signing) and not is_due(found, self._world.now()):
                return False
        made = issue(self._signing)
        write_private(key, made.key)
        write_private(file, made.certificate)
        return True
