"""The certificates that a cluster keeps: renewed before they end, with two authorities while one follows the other."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from heliograph.core.certificates import DAY, read_certificate
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.local.certificates import AUTHORITY_DAYS, OVERLAP, Certificates, turn_of

NAMES = ("localhost", "127.0.0.1")
START = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def world(self) -> World:
        return World(now=lambda: self.now)


def _kept(directory: Path, clock: Clock, names: tuple[str, ...] = NAMES) -> Certificates:
    return Certificates(directory / "tls", names, clock.world())


def _server(certificates: Certificates) -> str:
    return certificates.server.read_text()


def test_files_are_their_users_alone_and_kept(tmp_path: Path) -> None:
    clock = Clock()
    first = _kept(tmp_path, clock)
    first.client("phone")
    assert first.renew()
    files = list((tmp_path / "tls").iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    before = {file: file.read_bytes() for file in files}
    again = _kept(tmp_path, clock)
    again.client("phone")
    assert not again.renew()
    assert {file: file.read_bytes() for file in (tmp_path / "tls").iterdir()} == before
    assert "PRIVATE" not in first.ca.read_text()


def test_another_name_makes_another_certificate_of_the_same_authority(tmp_path: Path) -> None:
    clock = Clock()
    first = _kept(tmp_path, clock)
    first.renew()
    ca, hashes = first.ca.read_text(), first.hashes()
    other = _kept(tmp_path, clock, (*NAMES, "cloud.example"))
    assert other.renew()
    assert (other.ca.read_text(), other.hashes()) == (ca, hashes)
    assert "cloud.example" in read_certificate(other.server, other.server_key).names


def test_a_certificate_is_renewed_when_a_third_of_its_time_is_left(tmp_path: Path) -> None:
    clock = Clock()
    kept = _kept(tmp_path, clock)
    kept.renew()
    before = _server(kept)
    clock.now = START + 59 * DAY
    assert not kept.renew()
    clock.now = START + 61 * DAY
    assert kept.renew()
    assert _server(kept) != before


def test_authorities_overlap(tmp_path: Path) -> None:
    """A copy of ca.pem that is a month old has the authority that signs, at each moment."""
    clock = Clock()
    kept = _kept(tmp_path, clock)
    copies: list[str] = []
    counts = set()
    for day in range(0, int(AUTHORITY_DAYS) * 2, 10):
        clock.now = START + day * DAY
        kept.renew()
        copies.append(kept.ca.read_text())
        found = read_certificate(kept.server, kept.server_key)
        signer = [each for each in kept._authorities.values() if found.is_from(each)]
        assert len(signer) == 1
        assert found.period[1] > clock.now
        assert signer[0].own.certificate in copies[max(0, len(copies) - 3)]
        counts.add(len(kept.hashes()))
    assert counts == {1, 2}
    assert len(set(copies)) > 3


def test_another_authority_is_trusted_at_once_and_signs_when_the_first_is_gone(tmp_path: Path) -> None:
    clock = Clock()
    kept = _kept(tmp_path, clock)
    kept.renew()
    before, (old,) = _server(kept), kept.hashes()
    kept.add_authority()
    first, second = kept.hashes()
    assert first == old
    assert kept.ca.read_text().count("BEGIN CERTIFICATE") == 2
    assert not kept.renew()
    assert _server(kept) == before
    (tmp_path / "tls" / "authority-1.pem").unlink()
    assert kept.renew()
    assert kept.hashes() == [second]
    assert _server(kept) != before


def test_the_bundle_stays_the_same_file(tmp_path: Path) -> None:
    """A confined worker may read that file alone, not one that replaces it."""
    kept = _kept(tmp_path, Clock())
    kept.renew()
    before = kept.ca.stat().st_ino
    kept.add_authority()
    assert kept.ca.stat().st_ino == before


def test_a_damaged_authority_is_refused_by_its_file(tmp_path: Path) -> None:
    kept = _kept(tmp_path, Clock())
    kept.renew()
    (tmp_path / "tls" / "authority-1.pem").write_text("nothing")
    with pytest.raises(Refused, match=r"authority-1\.pem"):
        _kept(tmp_path, Clock()).renew()


@given(some.lists(some.tuples(some.floats(-1e9, 1e9), some.floats(-1e9, 1e9)), max_size=4), some.floats(-1e9, 1e9))
def test_what_signs_is_kept_and_lasts(periods: list[tuple[float, float]], now: float) -> None:
    turn = turn_of(periods, now)
    assert len(turn.kept) + turn.make in (1, 2)
    assert all(periods[place][1] > now for place in turn.kept)
    assert turn.make or periods[turn.kept[-1]][1] - now >= OVERLAP
    if turn.signing is not None:
        assert turn.signing in turn.kept
        assert periods[turn.signing][1] - now > OVERLAP / 2
    else:
        assert turn.make
