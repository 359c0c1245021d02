"""``logs``: the records of every component, printed live until Ctrl-C."""

from __future__ import annotations

import asyncio
import re
import signal
from typing import Any

import pytest

from heliograph.bus.connect import connect
from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3}  edge-1/worker/chatty-w +hello from the script")


async def _interrupted(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Send Ctrl-C; return the exit code and the rest of stderr."""
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(HANGS):
        _, err = await process.communicate()
    return process.returncode or 0, err.decode()


async def test_a_workers_line_is_shown_as_it_is_printed(cli: Any, job: Any, cluster: Any, read_until: Any) -> None:
    everything = await cli.start("logs")
    of_the_job = await cli.start("logs", "chatty")
    errors = await cli.start("logs", "--errors")
    for process in (everything, of_the_job, errors):
        following = await read_until(process.stderr, "following")
        assert following == f"following the logs of {cluster.broker.url()} (from HELIOGRAPH_SERVER)"
    assert (await cli("apply", "-f", "-", stdin=job("chatty"))).code == 0
    for process in (everything, of_the_job):
        assert LINE.fullmatch(await read_until(process.stdout, "hello"))
    async with connect(cluster.door) as anyone:
        await anyone.link.wait_up(HANGS)
        await anyone.publish("request/jobs/create", b"{")  # refused without a reply topic, so it is logged
    error = await read_until(errors.stdout, "")  # reads the first line: the script's lines are no errors
    assert re.fullmatch(
        r"[\d:.]{12}  door +error: heliograph/request/jobs/create: expected JSON or MessagePack.*", error
    )
    for process in (everything, of_the_job, errors):
        assert await _interrupted(process) == (130, "")


async def test_an_anonymous_client_may_not_read_logs(cli: Any, cluster: Any) -> None:
    ran = await cli("logs", "--server", cluster.broker.url(scheme="mqtt"))
    assert (ran.code, ran.out) == (6, "")
    assert "edge/+/up/log/+/#: expected permission to subscribe" in ran.error


async def test_lines_of_the_past_come_from_the_broker(cli: Any, cluster: Any, read_until: Any) -> None:
    ran = await cli("logs", "chatty", "--since", "10m", "--no-follow")
    assert (ran.code, ran.err) == (0, "")
    assert [line for line in ran.out.splitlines() if LINE.fullmatch(line)]
    assert (await cli("logs", "chatty", "--since", "0s", "--no-follow")).out == ""
    before = (await cli("logs", "--since", "10m", "--no-follow")).out.splitlines()
    newest = (await cli("logs", "--tail", "2", "--no-follow")).out.splitlines()
    whole = (await cli("logs", "--since", "10m", "--no-follow")).out.splitlines()
    first = whole.index(newest[0])
    assert newest == whole[first : first + 2]
    assert first + 2 >= len(before)  # lines may have come meanwhile; none that was there is newer
    door = (await cli("logs", "door", "--tail", "1", "--since", "10m", "--no-follow")).out.splitlines()
    assert door == [line for line in whole if "  door " in line][-1:]
    assert (await cli("logs", "chatty", "--tail", "1", "--since", "0s", "--no-follow")).out == ""
    for wrong in ("0", "-1", "many"):
        assert (await cli("logs", "--tail", wrong)).code == 2
    errors = await cli("logs", "--errors", "--since", "10m", "--no-follow")
    assert "expected JSON or MessagePack" in errors.out
    assert "hello from the script" not in errors.out
    following = await cli.start("logs", "door", "--since", "10m")
    await read_until(following.stdout, "expected JSON")
    async with connect(cluster.door) as anyone:
        await anyone.link.wait_up(HANGS)
        await anyone.publish("request/jobs/create", b"[")
    await read_until(following.stdout, "expected JSON")
    assert await _interrupted(following) == (130, "")
    by_mqtt = await cli("logs", "--since", "10m", "--server", cluster.door)
    assert (by_mqtt.code, "MQTT has no past" in by_mqtt.error) == (1, True)
