"""``doctor``: what each check says of a sound cluster, of each fault, and of a machine without a cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from heliograph.cli.doctor import certificates, clock, edges, versions
from heliograph.cli.doctor.certificates import CertificatesCheck
from heliograph.cli.doctor.check import Finding, Patient, worst
from heliograph.cli.doctor.checks import CHECKS
from heliograph.cli.doctor.command import examine, lines_of
from heliograph.cli.doctor.confinement import ConfinementCheck
from heliograph.cli.doctor.disk import DiskCheck
from heliograph.cli.doctor.logins import LoginsCheck
from heliograph.cli.doctor.permissions import PermissionsCheck
from heliograph.core.certificates import Authority
from heliograph.core.errors import HeliographError
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import decode, encode
from heliograph.core.world import World
from heliograph.edge_agent.confinement import landlock, seccomp
from heliograph.local.nats_server import free_ports
from heliograph.server import Server

NOW = 1_000_000.0
with_cluster = pytest.mark.asyncio(loop_scope="module")


def _levels(findings: list[Finding]) -> list[str]:
    return [each.level for each in findings]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of this user's state."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("HELIOGRAPH_SERVER", raising=False)
    monkeypatch.delenv("HELIOGRAPH_NODE", raising=False)
    return tmp_path


@with_cluster
async def test_a_sound_cluster_is_well(cli: Any, home: Path, monkeypatch: pytest.MonkeyPatch, cluster: Any) -> None:
    monkeypatch.setenv("HELIOGRAPH_SERVER", cluster.server)
    ran = await cli("doctor", "-o", "json")
    found = json.loads(ran.out)
    wrong = [each for each in found if each["level"] in ("problem", "warning") and each["check"] != "disk"]
    assert (ran.code, wrong) == (0, [])
    by_check = {each["check"]: each["text"] for each in found}
    assert list(by_check) == [each.name for each in CHECKS if each.name not in ("node", "certificates")]
    assert by_check["edges"] == "2 of 2 edges are online"
    assert by_check["permissions"] == "operator may read statuses, read logs, send requests"
    assert any("the clocks of 2 edges agree" in each["text"] for each in found)
    node = cluster.nodes["edge-1"].broker.url(scheme="mqtt")
    over_mqtt = await cli("doctor", "--server", cluster.door, "--node", node)
    assert over_mqtt.code == 0
    assert f"✓ node          {node} answers" in over_mqtt.out


@with_cluster
async def test_a_login_that_may_little_is_told_so(cli: Any, home: Path, cluster: Any) -> None:
    ran = await cli("doctor", "--server", cluster.broker.url(), "-o", "json")
    found = json.loads(ran.out)
    said = next(each for each in found if each["check"] == "permissions")
    assert said["text"] == "an anonymous client may read statuses; may not read logs, send requests"
    place = cluster.broker.url().removeprefix("nats://")
    wrong = await cli("doctor", "--check", "broker", "--server", f"nats://operator:guess@{place}")
    assert wrong.code == 1
    assert "✗ broker        cannot reach nats://" in wrong.out
    assert "→ Take the login from the cluster.json that 'heliograph up' has written" in wrong.out
    assert "guess" not in wrong.out


def test_without_a_cluster_the_machine_is_examined_alone(typed: Any, home: Path) -> None:
    ran = typed("doctor")
    assert ran.code == 1
    assert "✗ broker        no cluster found" in ran.out
    assert "· clock         not examined: the broker cannot be reached" in ran.out
    assert "✓ versions      heliograph " in ran.out
    nobody = f"nats://127.0.0.1:{free_ports(1)[0]}"
    ran = typed("doctor", "--check", "broker", "--server", nobody, "--node", nobody)
    assert ran.code == 1
    assert f"✗ broker        cannot reach {nobody}: " in ran.out
    assert "→ Start the broker; look at host, port and firewall" in ran.out


def test_the_checks_are_listed(typed: Any) -> None:
    ran = typed("doctor", "--list")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["CHECK", *(each.name for each in CHECKS)]


async def test_what_a_machine_cannot_confine_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 3)
    found = await ConfinementCheck().examine(Patient(World()))
    assert [each.level for each in found] == ["warning"] and "bounds no TCP connections" in found[0].text
    monkeypatch.setattr(landlock, "version", lambda: 7)
    monkeypatch.setattr(seccomp, "available", lambda: True)
    assert [each.level for each in await ConfinementCheck().examine(Patient(World()))] == ["good"]


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(0.0, None), (1.9, None), (-1.9, None), (2.5, "warning"), (-30.0, "warning"), (90.0, "problem")],
)
def test_a_wrong_clock_is_said(ahead: float, level: str | None) -> None:
    found = clock.finding("the clock of edge-1", ahead)
    assert (found.level if found else None) == level
    if found is not None:
        way = "ahead of" if ahead > 0 else "behind"
        assert found.text == f"the clock of edge-1 is {abs(ahead):.1f} s {way} the broker's"
        assert "NTP" in found.mend


def test_a_report_may_have_been_under_way_for_a_while() -> None:
    assert clock.finding("the clock of edge-1", -9.0, clock.DELAY) is None
    assert clock.finding("the clock of edge-1", -11.0, clock.DELAY) is not None
    assert clock.finding("the clock of edge-1", 3.0, clock.DELAY) is not None


def test_a_clock_is_compared_with_a_reading_that_took_a_while() -> None:
    assert clock.between(10.0, 10.5, 11.0) == 0.0
    assert clock.between(10.0, 7.0, 11.0) == 3.0
    assert clock.between(10.0, 15.0, 11.0) == -4.0
    assert clock.seconds_of("2026-11-28T02:40:45.123456789Z") == pytest.approx(1795833645.123456)
    assert clock.seconds_of("2026-11-28T02:40:45Z") == 1795833645


@pytest.mark.parametrize(
    ("coordinator", "agents", "levels"),
    [
        ("0.2.0", {"a": "0.2.1", "b": "0.3.0"}, ["good"]),
        ("0.4.0", {"a": "0.4.0"}, ["problem"]),
        ("0.2.0", {"a": "0.4.0", "b": "1.2.0", "c": "0.2.0"}, ["problem", "problem"]),
        ("0.2.0", {f"edge-{number}": "0.9" for number in range(9)}, ["problem"] * 6),
        ("", {}, []),
    ],
)
def test_versions_that_do_not_work_together(coordinator: str, agents: dict[str, str], levels: list[str]) -> None:
    assert _levels(versions.judged("0.2.0", coordinator, agents)) == levels


def _edge(name: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"online": True, "since": "1970-01-12T13:46:00Z"} | status}


def test_troubled_edges_are_named() -> None:
    assert _levels(edges.judged([], NOW)) == ["warning"]
    assert _levels(edges.judged([_edge("a")], NOW)) == ["good"]
    troubled = [_edge("a", online=False), _edge("b", droppedEvents=3, workers=["w failed: no file", "v running"])]
    found = edges.judged(troubled, NOW)
    assert [each.text for each in found] == [
        "1 of 2 edges are online", "a is offline for 40s", "b has dropped 3 events", "b: worker w failed: no file"
    ]  # fmt: skip
    assert found[-1].mend == "heliograph logs w --since 10m"
    many = edges.judged([_edge(f"e{number}", online=False) for number in range(20)], NOW)
    assert [many[-1].text, len(many)] == ["and 15 more", 7]


async def test_files_that_others_can_read_are_a_problem(home: Path) -> None:
    place = home / "heliograph"
    place.mkdir()
    file = place / "cluster.json"
    file.write_text("{}")
    file.chmod(0o600)
    assert _levels(await PermissionsCheck().examine(Patient(World()))) == ["good"]
    file.chmod(0o644)
    (found,) = await PermissionsCheck().examine(Patient(World()))
    assert (found.level, found.mend) == ("problem", f"chmod go-rwx {file}")
    key = home / "key.pem"
    key.write_text("")
    key.chmod(0o644)
    of_key = Patient(World(), Server(f"tls://h:1?ca={key}&certificate={key}&key={key}"))
    assert f"{key}, with a private key" in (await PermissionsCheck().examine(of_key))[-1].text


async def test_a_nodes_login_that_others_can_read_is_a_problem(home: Path) -> None:
    file = _enrolled(home, expires=0)
    file.chmod(0o644)
    found = await PermissionsCheck().examine(Patient(World()))
    assert [(each.level, each.mend) for each in found] == [("problem", f"chmod go-rwx {file}")]


@pytest.mark.parametrize(
    ("left", "level"), [(None, "good"), (20 * 3600, "good"), (5 * 3600, "warning"), (-60, "problem")]
)
async def test_a_login_that_was_not_renewed_is_said(home: Path, left: int | None, level: str) -> None:
    now = int(World().now())
    file = _enrolled(home, expires=0 if left is None else now + left)
    (found,) = await LoginsCheck().examine(Patient(World()))
    assert found.level == level and "agent-edge-7" in found.text
    assert left is None or (str(file) in found.text and bool(found.mend) == (level != "good"))


def _enrolled(home: Path, expires: int) -> Path:
    """Write the login of a node that has enrolled, which was issued a day before it expires."""
    world = World()
    directory = home / "heliograph" / "agents" / "edge-7" / "identity"
    for each in (directory, directory.parent):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    key, account = KeyPair("user", world.new_secret()), KeyPair("account", world.new_secret())
    issued = (expires or world.now()) - 86_400
    token = encode(UserClaims(subject=key.public, name="agent-edge-7", expires=expires), account, issued)
    file = directory / "login.creds"
    UserCredentials(token, decode(token, UserClaims), key).write(file)
    return file


@pytest.mark.parametrize(("days", "level"), [(90, "good"), (19, "warning"), (-1, "problem")])
async def test_a_certificate_that_ends_soon_is_said(tmp_path: Path, days: int, level: str) -> None:
    world = World()
    (file := tmp_path / "ca.pem").write_text(Authority.made(world, 30 + days).own.certificate)
    later = World(now=lambda: World().now() + 30 * 86_400)
    (found,) = await CertificatesCheck().examine(Patient(later, Server(f"tls://h:1?ca={file}")))
    assert found.level == level and str(file) in found.text
    assert certificates.judged("the broker's certificate", 30.0 * 86_400, 15.0 * 86_400, 20, "").level == "warning"


async def test_a_full_disk_is_a_problem(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 10**12

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    assert set(_levels(await DiskCheck().examine(Patient(World())))) == {"good"}
    Usage.free = 500_000_000
    assert "warning" in _levels(await DiskCheck().examine(Patient(World())))
    Usage.free = 1000
    found = await DiskCheck().examine(Patient(World()))
    assert found[0].level == "problem"
    assert "1 kB free" in found[0].text
    if os.getuid():  # root writes everywhere
        home.chmod(0o500)
        monkeypatch.setenv("XDG_STATE_HOME", str(home / "none"))
        assert "is not writable" in (await DiskCheck().examine(Patient(World())))[0].text


async def test_a_check_that_fails_leaves_the_others() -> None:
    class Broken:
        name, what, needs_cluster = "broken", "", False

        def __init__(self, error: Exception) -> None:
            self.error = error

        async def examine(self, patient: Patient) -> list[Finding]:
            raise self.error

    (found,) = await examine(Broken(HeliographError("no answer")), Patient(World()))
    assert (found.level, found.text) == ("problem", "the check broken: no answer")
    (found,) = await examine(Broken(ZeroDivisionError("x")), Patient(World()))
    assert found.text.startswith("the check broken: not handled, by a defect of this program: ZeroDivisionError (x)")


def test_the_report_counts_what_is_wrong() -> None:
    findings = [Finding("good", "a"), Finding("warning", "b\x1b[2J", "do this"), Finding("problem", "c")]
    assert [*lines_of([("one", findings)])] == [
        "✓ one           a", "! one           b [2J", "                → do this", "✗ one           c",
        "1 problem, 1 warning",
    ]  # fmt: skip
    assert worst(iter(findings)) == "problem"
    assert [*lines_of([("one", findings[:1])])][-1] == "nothing is wrong"
