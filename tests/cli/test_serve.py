"""``agent`` and ``coordinator``: bad settings are reported at once; SIGTERM ends them in order."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from heliograph.core.private_files import make_private
from heliograph.core.world import DirectoryInUse, World
from heliograph.edge_agent.state_lock import wait_for_state
from heliograph.enrolment import Enrolment
from heliograph.local.nats_server import free_ports

AGENT = ("agent", "--name", "e1", "--cloud", "nats://127.0.0.1:1", "--node", "mqtt://127.0.0.1:1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*AGENT, "--cloud", "mqtt://h:1"), "field --cloud: expected nats://HOST:PORT, got mqtt://h:1"),
        ((*AGENT, "--node", "h:1"), "field --node: expected nats://HOST:PORT or mqtt://HOST:PORT, got h:1"),
        ((*AGENT, "--worker-node", "mqtt://"), "field --worker-node: expected nats://HOST:PORT or"),
        ((*AGENT, "--site-policy", "/nowhere.toml"), "/nowhere.toml: expected a file with the site policy"),
        ((*AGENT, "--state", "/proc/nowhere"), "/proc/nowhere: No such file or directory"),
        (("coordinator", "--nats", "mqtt://h:1"), "field --nats: expected nats://HOST:PORT, got mqtt://h:1"),
        (("coordinator", "--nats", "nats://u:secret@[h"), "field --nats: expected nats://HOST:PORT, got [h"),
        (("coordinator", "--nats", "tls://h", "--status", "h"), "field --status: expected mqtt://HOST:PORT, got h"),
        (("coordinator", "--nats", "tls://h", "--door", "nats://h:1"), "field --door: expected mqtt://HOST:PORT"),
        (("coordinator", "--nats", "nats://u:secret@h"), "field --nats: expected tls://, since h is another machine, "
         "got nats://h:4222. Give its broker TLS; or type --insecure"),
        (("coordinator", "--nats", "tls://h", "--door", "mqtt://h"), "field --door: expected mqtts://, since h is"),
        ((*AGENT, "--cloud", "ws://u:secret@10.0.0.1"), "field --cloud: expected wss://, since 10.0.0.1 is another"),
        ((*AGENT, "--cloud", "tls://10.0.0.1"), "field --coordinator-keys: expected the coordinator's public keys, "
         "since 10.0.0.1 is another machine, got none. Copy the cluster's coordinator-keys.pem, and name it"),
        ((*AGENT, "--coordinator-keys", os.devnull), f"{os.devnull}: expected public keys for Ed25519 in PEM, 1 to 64"),
        (("coordinator", "--nats", "nats://127.0.0.1:1", "--document-key", os.devnull),
         f"{os.devnull}: expected a private key for Ed25519 in PEM, without a password"),
        ((*AGENT, "--node", "mqtt://10.0.0.1"), "field --node: expected mqtts://, since 10.0.0.1 is another machine"),
    ],
)
def test_bad_settings_are_one_line(typed: Any, words: tuple[str, ...], message: str) -> None:
    ran = typed(*words)
    assert (ran.code, ran.out) == (1, "")
    assert ran.error.startswith(message)


async def test_both_name_their_servers_wait_for_them_and_end_with_sigterm(
    alone: Any, tmp_path: Path, read_until: Any
) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    coordinator = await alone.start("coordinator", HELIOGRAPH_NATS=f"nats://coordinator:secret@{nobody}")
    agent = await alone.start(
        *("agent", "--name", "e1", "--state", tmp_path / "state"),
        HELIOGRAPH_CLOUD=f"nats://agent-e1:secret@{nobody}",
        HELIOGRAPH_NODE=f"mqtt://{nobody}",
    )
    message = await read_until(coordinator.stdout, "")
    assert message == f"coordinator connects to nats://{nobody}"
    message = await read_until(agent.stdout, "")
    assert message == f"agent e1 connects to nats://{nobody}, and on its node to mqtt://{nobody}"
    for process in (agent, coordinator):
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")


async def test_an_agents_files_are_its_users_alone(alone: Any, tmp_path: Path, read_until: Any) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)  # as an earlier release made it
    before = os.umask(0o022)
    try:
        agent = await alone.start(*AGENT, "--state", state)
    finally:
        os.umask(before)
    await read_until(agent.stdout, "agent e1 connects")
    agent.send_signal(signal.SIGTERM)
    assert await agent.wait() == 0
    assert (state / "journal.db").exists()
    assert {str(path): oct(path.stat().st_mode & 0o077) for path in (state, *state.rglob("*"))} == dict.fromkeys(
        map(str, (state, *state.rglob("*"))), "0o0"
    )


async def test_a_second_agent_on_the_same_state_is_refused(alone: Any, tmp_path: Path, read_until: Any) -> None:
    words = (*AGENT, "--state", tmp_path / "state")
    first = await alone.start(*words)
    await read_until(first.stdout, "agent e1 connects")
    second = await alone.apart(*words)
    assert second.code == 1
    assert str(tmp_path / "state") in second.error
    first.send_signal(signal.SIGTERM)
    assert await first.wait() == 0


async def test_a_second_agent_that_waits_starts_once_the_first_is_killed(
    alone: Any, tmp_path: Path, read_until: Any
) -> None:
    words = (*AGENT, "--state", tmp_path / "state")
    first = await alone.start(*words)
    await read_until(first.stdout, "agent e1 connects")
    second = await alone.start(*words, HELIOGRAPH_WAIT="1")
    third = await alone.start(*words, "--wait")
    for waiting in (second, third):
        said = await read_until(waiting.stdout, "")
        assert said == f"another agent runs on {tmp_path / 'state'}; this one starts once that has ended"
    third.send_signal(signal.SIGTERM)  # it can be ended while it waits
    assert await third.wait() == 0
    first.send_signal(signal.SIGKILL)
    await first.wait()
    assert await read_until(second.stdout, "") == f"the other agent has ended; {tmp_path / 'state'} is this one's"
    assert (await read_until(second.stdout, "")).startswith("agent e1 connects")
    assert (await alone.apart(*words)).code == 1  # the lock that it got holds
    second.send_signal(signal.SIGTERM)
    assert await second.wait() == 0


def test_an_agent_that_need_not_wait_says_nothing_of_it(tmp_path: Path) -> None:
    said: list[str] = []
    with asyncio.run(wait_for_state(tmp_path / "state", World(), said.append)), pytest.raises(DirectoryInUse):
        World().lock_directory(tmp_path / "state")
    World().lock_directory(tmp_path / "state").close()
    assert said == []


async def test_an_agent_takes_its_name_from_the_enrolment_of_its_state(
    alone: Any, tmp_path: Path, read_until: Any
) -> None:
    state = tmp_path / "state"
    nameless = ("agent", "--state", state, "--node", "mqtt://127.0.0.1:1")
    missing = await alone.apart(*nameless)
    assert (missing.code, missing.error) == (
        2, "missing option --name, and no --state directory of a node that has enrolled. Try 'heliograph agent --help'."
    )  # fmt: skip
    Enrolment("hall-3", "nats://127.0.0.1:1").write(make_private(state / "identity"))
    agent = await alone.start(*nameless)
    assert (await read_until(agent.stdout, "")).startswith("agent hall-3 connects to nats://127.0.0.1:1, and on")
    agent.send_signal(signal.SIGTERM)
    assert await agent.wait() == 0
