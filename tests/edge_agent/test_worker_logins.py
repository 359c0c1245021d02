"""Each launch has a login of its own: another key each time, renewed while the worker runs, and gone after its end."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

from heliograph.bus.nats.worker_issuer import WorkerIssuer
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.names import CLOUD
from heliograph.core.world import World
from heliograph.edge_agent.launcher import LOGIN_FILE, LaunchRequest
from heliograph.edge_agent.shared_directory import SharedDirectory
from heliograph.edge_agent.worker_logins import RETRY_SECONDS, WorkerLogins
from heliograph.simulations.virtual.loop import VirtualLoop, run
from tests.edge_agent.supervised_node import train_task

LIFETIME = 100


def _issuer() -> WorkerIssuer:
    world = World()
    return WorkerIssuer(KeyPair("account", world.new_secret()).public, KeyPair("account", world.new_secret()))


def test_a_login_names_its_launch_and_is_renewed_at_half_of_its_life() -> None:
    handed: list[tuple[float, str]] = []

    async def launch(loop: VirtualLoop) -> str:
        async def hand(text: str) -> None:
            handed.append((loop.time(), text))

        logins = WorkerLogins(_issuer(), CLOUD, World(now=loop.time), print, LIFETIME)
        async with logins.of_launch(train_task(), hand) as text:
            await asyncio.sleep(1.2 * LIFETIME)
            return text

    first = run(launch)
    begun = [UserCredentials.parse(text, "login") for text in (first, *(text for _, text in handed[:-1]))]
    assert [at for at, _ in handed] == [LIFETIME / 2, LIFETIME, 1.2 * LIFETIME]
    assert handed[-1][1] == "", "the login is taken away at the launch's end"
    assert [each.claims.expires for each in begun] == [LIFETIME, 1.5 * LIFETIME, 2 * LIFETIME]
    assert {each.claims.subject for each in begun} == {begun[0].claims.subject}
    assert begun[0].claims.name == "worker-job-worker"
    assert set(begun[0].claims.tags) == {"worker:job-worker", "job:job", "uid:u", "edge:cloud"}
    assert UserCredentials.parse(run(launch), "login").claims.subject != begun[0].claims.subject


def test_a_full_disk_delays_a_renewal() -> None:
    tries: list[float] = []
    warned: list[str] = []

    async def launch(loop: VirtualLoop) -> None:
        async def hand(text: str) -> None:
            tries.append(loop.time())
            if text and len(tries) < 3:
                raise OSError("no space left on device")

        logins = WorkerLogins(_issuer(), CLOUD, World(now=loop.time), warned.append, LIFETIME)
        async with logins.of_launch(train_task(), hand):
            await asyncio.sleep(0.9 * LIFETIME)

    run(launch)
    assert tries == [50.0, 50.0 + RETRY_SECONDS, 50.0 + 2 * RETRY_SECONDS, 90.0]
    assert warned == ["the login of worker job-worker is not renewed: no space left on device"] * 2


async def test_a_login_is_a_file_of_its_user_alone_and_the_environment_has_its_path(tmp_path: Path) -> None:
    place, file = SharedDirectory(tmp_path), tmp_path / "w" / LOGIN_FILE
    file.parent.mkdir()
    await place.hand_login("w", "a login")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("a login", 0o600)
    bus = {"HELIOGRAPH_BUS": "nats://127.0.0.1:4222"}
    request = LaunchRequest("w", "train", b"", bus, tmp_path, login="a login")
    variables = request.variables(str(file.parent), "/models", ())
    assert variables["HELIOGRAPH_BUS"] == f"nats://127.0.0.1:4222?credentials={file}"
    assert "a login" not in f"{request}{variables}"
    assert LaunchRequest("w", "train", b"", bus, tmp_path).variables("/w", "/m", ()).items() >= bus.items()
    await place.hand_login("w", "")
    await place.hand_login("w", "")
    assert not file.exists()
