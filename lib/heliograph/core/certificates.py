"""X.509 certificates of an authority of one's own: P-256 keys, names in the subject alternative name (RFC 5280, 6125).

Clocks of machines differ: each certificate is valid from an hour before it was made. ``cryptography`` is imported by
the first certificate.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.core.errors import Refused
from heliograph.core.signing import new_p256_key

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from heliograph.core.world import World

DAY = 86_400.0
CLOCK_SKEW = 3600.0
"""Seconds by which the clock of another machine may be late."""
_SERIAL_BYTES = 16
_MOST_NAME = 253
_HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,62}\.?)+")


@dataclass(frozen=True)
class Certificate:
    """A certificate with its private key, both as PEM. ``repr`` has no key."""

    certificate: str
    key: str = field(repr=False)

    @cached_property
    def _parsed(self) -> x509.Certificate:
        from cryptography import x509

        return x509.load_pem_x509_certificate(self.certificate.encode())

    @property
    def period(self) -> tuple[float, float]:
        """When it begins and ends to be valid, in seconds since 1970."""
        return self._parsed.not_valid_before_utc.timestamp(), self._parsed.not_valid_after_utc.timestamp()

    @property
    def names(self) -> frozenset[str]:
        """The host names and IP addresses that it is for."""
        from cryptography import x509

        found = self._parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return frozenset(str(each.value) for each in found)

    def is_from(self, authority: Authority) -> bool:
        """Return whether an authority has issued it."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._parsed.verify_directly_issued_by(authority.own._parsed)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


class Authority:
    """A certificate authority: its certificate with its key, which signs others."""

    def __init__(self, own: Certificate) -> None:
        self.own = own

    @classmethod
    def made(cls, world: World, days: float) -> Authority:
        """Return a new authority whose certificate ends after ``days``."""
        key = new_p256_key(world)
        name = f"heliograph authority {_hash_of(key.public_key())[:8]}"  # each has a name of its own: chains go by it
        return cls(_issued(world, key, name, (world.now() - CLOCK_SKEW, world.now() + days * DAY), None, (), ""))

    @property
    def hash(self) -> str:
        """SHA-256 of its public key (SubjectPublicKeyInfo in DER), in hexadecimal digits: what one pins it by."""
        return _hash_of(self.own._parsed.public_key())

    def server(self, world: World, names: Iterable[str], days: float) -> Certificate:
        """Return a new certificate for a server that is reached by these host names and IP addresses.

        Raise Refused naming one that is neither.
        """
        return self._certificate(world, "server", names, "server", days)

    def peer(self, world: World, names: Iterable[str], days: float) -> Certificate:
        """Return a new certificate for a server that connects to servers of its kind too; see ``server``."""
        return self._certificate(world, "peer", names, "peer", days)

    def client(self, world: World, name: str, days: float) -> Certificate:
        """Return a new certificate for a client of that name."""
        return self._certificate(world, name, (name,), "client", days)

    def _certificate(self, world: World, name: str, names: Iterable[str], use: str, days: float) -> Certificate:
        period = world.now() - CLOCK_SKEW, min(world.now() + days * DAY, self.own.period[1])
        return _issued(world, new_p256_key(world), name, period, self, sorted(set(names)), use)


def read_certificate(file: Path, key: Path) -> Certificate:
    """Return the certificate of a file with the key of another, or of the same. Raise Refused where it has none."""
    found = Certificate(_block(file.read_text(), "CERTIFICATE"), _block(key.read_text(), "PRIVATE KEY"))
    try:
        _ = found.period
    except ValueError:
        raise Refused("bad-key", topic=str(file), expected="a certificate in PEM", got="none that can be read",
                      hint="Delete its directory; the next start makes another authority.") from None  # fmt: skip
    return found


def _block(text: str, what: str) -> str:
    """Return the first block of that kind in PEM; empty if there is none."""
    begin, end = f"-----BEGIN {what}-----", f"-----END {what}-----"
    _, found, rest = text.partition(begin)
    inside, ended, _ = rest.partition(end)
    return f"{begin}{inside}{end}\n" if found and ended else ""


def _issued(
    world: World, key: EllipticCurvePrivateKey, name: str, period: tuple[float, float], by: Authority | None,
    names: Iterable[str], use: str,
) -> Certificate:  # fmt: skip
    """Return a signed certificate: an authority's own if there is no issuer."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    issuer = subject if by is None else by.own._parsed.subject
    issuing = key if by is None else load_pem_private_key(by.own.key.encode(), None)
    serial = int.from_bytes(world.new_secret()[:_SERIAL_BYTES]) >> 1 | 1
    building = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(issuer).public_key(key.public_key()).serial_number(serial)
        .not_valid_before(datetime.fromtimestamp(period[0], UTC))
        .not_valid_after(datetime.fromtimestamp(period[1], UTC))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=0 if by is None else None), critical=True)
        .add_extension(_key_usage(by is None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing.public_key()), critical=False)  # type: ignore[arg-type]
    )  # fmt: skip
    if by is not None:
        server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
        uses = {"server": [server], "client": [client], "peer": [server, client]}
        building = building.add_extension(x509.SubjectAlternativeName([_general_name(each) for each in names]), False)
        building = building.add_extension(x509.ExtendedKeyUsage(uses[use]), False)
    signed = building.sign(issuing, SHA256())  # type: ignore[arg-type]
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Certificate(signed.public_bytes(Encoding.PEM).decode(), private)


def _hash_of(key: CertificatePublicKeyTypes) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _key_usage(authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(digital_signature=not authority, content_commitment=False, key_encipherment=False,
                         data_encipherment=False, key_agreement=False, key_cert_sign=authority, crl_sign=authority,
                         encipher_only=False, decipher_only=False)  # fmt: skip


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if len(name) > _MOST_NAME or not _HOST.fullmatch(name):
        raise Refused("invalid", field="name", expected="a host name or an IP address", got=name[:80])
    return x509.DNSName(name)
