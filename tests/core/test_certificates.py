"""Certificates of an authority of one's own: names, periods, issuers."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from heliograph.core.certificates import CLOCK_SKEW, DAY, Authority, read_certificate
from heliograph.core.errors import Refused
from heliograph.core.world import World

NOW = 1_800_000_000.0
WORLD = World(now=lambda: NOW)
NAMES = ("cloud.example", "localhost", "192.0.2.7", "fd00::2")


def test_a_servers_certificate_is_for_its_names_and_period() -> None:
    authority = Authority.made(WORLD, 100)
    made = authority.server(WORLD, NAMES, 10)
    assert made.names == set(NAMES)
    assert made.period == (NOW - CLOCK_SKEW, NOW + 10 * DAY)
    assert made.is_from(authority)
    assert not made.is_from(Authority.made(WORLD, 100))


def test_no_certificate_outlives_its_authority() -> None:
    authority = Authority.made(WORLD, 5)
    assert authority.client(WORLD, "phone", 10).period[1] == authority.own.period[1] == NOW + 5 * DAY


@pytest.mark.parametrize("name", ["", "a b", "-a", "host:4222", "https://host", "*.example", "ü.example", "a" * 300])
def test_what_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="expected a host name or an IP address"):
        Authority.made(WORLD, 5).server(WORLD, [name], 1)


def test_no_key_is_shown() -> None:
    made = Authority.made(WORLD, 5).server(WORLD, NAMES, 1)
    assert "PRIVATE" in made.key
    assert "PRIVATE" not in repr(made)


def test_a_file_may_hold_the_certificate_and_the_key(tmp_path: Path) -> None:
    made, file = Authority.made(WORLD, 5).own, tmp_path / "both.pem"
    for text in (made.certificate + made.key, made.key + made.certificate):
        file.write_text(text)
        assert read_certificate(file, file) == made


def test_a_file_without_a_certificate_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "broken.pem"
    file.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(Refused, match="expected a certificate in PEM"):
        read_certificate(file, file)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="compares with the openssl command")
def test_openssl_accepts_them_and_computes_the_same_hash(tmp_path: Path) -> None:
    authority = Authority.made(World(), 100)
    ca, server = tmp_path / "ca.pem", tmp_path / "server.pem"
    ca.write_text(authority.own.certificate)
    server.write_text(authority.server(World(), NAMES, 10).certificate)
    words = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "cloud.example"]
    subprocess.run([*words, "-CAfile", ca, server], check=True, capture_output=True)
    public = subprocess.run(["openssl", "x509", "-in", ca, "-noout", "-pubkey"], check=True, capture_output=True)
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=public.stdout, check=True,
                         capture_output=True)  # fmt: skip
    assert hashlib.sha256(der.stdout).hexdigest() == authority.hash
