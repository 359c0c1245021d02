"""Row 12: the client of Node, and the same on a page in a browser, by WebSocket. ``make test-clients`` installs the
package and requires all; elsewhere what is missing is reported."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.field.foreign_clients import (
    EMBEDDED,
    MOSQUITTO,
    PASSWORD,
    USER,
    Foreign,
    assert_accepted,
    has_mosquitto,
    job,
    numbered,
    status_of,
)
from tests.field.web_page import WebPage, find_browser
from tests.patience import HANGS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.process, pytest.mark.clients]
SCRIPTS = Path(__file__).parents[1] / "data" / "field" / "clients"
INSTALLED = Path(os.environ.get("HELIOGRAPH_CLIENTS", Path(__file__).parents[2] / "build" / "clients")).resolve()
BUNDLE = INSTALLED / "node_modules" / "mqtt" / "dist" / "mqtt.min.js"
NODES = pytest.mark.parametrize("edge", [EMBEDDED, MOSQUITTO])


def need(what: str, found: object) -> None:
    """Skip the test where something is missing; fail it if the environment requires it."""
    if found:
        return
    if os.environ.get("HELIOGRAPH_REQUIRE_CLIENTS") == "1":
        pytest.fail(f"{what} is missing; HELIOGRAPH_REQUIRE_CLIENTS=1 requires it")
    pytest.skip(f"{what} is missing; make test-clients runs this test")


def need_package() -> None:
    need("Node", shutil.which("node"))
    need(f"the package mqtt in {INSTALLED}", BUNDLE.exists())


@pytest.fixture(scope="module")
def page() -> Any:
    page = WebPage({"page.html": SCRIPTS / "page.html", "client.js": SCRIPTS / "client.js", "mqtt.min.js": BUNDLE})
    yield page
    page.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def foreign(tmp_path_factory: pytest.TempPathFactory, page: WebPage) -> AsyncIterator[Foreign]:
    need_package()
    async with Foreign(tmp_path_factory.mktemp("foreign"), (page.origin,)) as cluster:
        yield cluster


async def in_node(task: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Let Node do a task; return the messages that it got."""
    argv = ("node", str(SCRIPTS / "node.js"), str(INSTALLED))
    ran = await asyncio.create_subprocess_exec(
        *argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(HANGS):
        out, err = await ran.communicate(json.dumps(task).encode())
    assert ran.returncode == 0, err.decode()
    return [(topic, text) for topic, text in json.loads(out)]


async def on_page(page: WebPage, task: Mapping[str, Any], profile: Path) -> list[tuple[str, str]]:
    """Let a page do a task; return the messages that it got."""
    browser = find_browser()
    need("Chromium", browser)
    assert browser is not None
    got = await page.run(browser, task, profile, HANGS)
    assert isinstance(got, list), got
    return [(topic, text) for topic, text in got]


def telemetry(foreign: Foreign, edge: str, device: str, url: str, version: int = 4) -> dict[str, Any]:
    bodies = [[foreign.topic(edge, device), body.decode()] for body in numbered()]
    return {"url": url, "options": {"protocolVersion": version}, "publish": bodies}


def asking(url: str, user: str, password: str, name: str, version: int = 4) -> tuple[dict[str, Any], str]:
    """Return the task of asking for a job, and the topic of the reply."""
    reply_to = f"heliograph/reply/{USER}/js"
    body = json.dumps({**job(name), "reply_to": reply_to})
    options = {"username": user, "password": password, "protocolVersion": version}
    return {"url": url, "options": options, "read": [reply_to, status_of(name)],
            "publish": [["heliograph/request/jobs/create", body]]}, reply_to  # fmt: skip


async def assert_asked(name: str, reply_to: str, got: list[tuple[str, str]]) -> None:
    messages = iter(got)

    async def message() -> tuple[str, bytes]:
        topic, text = next(messages)
        return topic, text.encode()

    await assert_accepted(name, reply_to, message)


@pytest.mark.parametrize(("edge", "version"), [(EMBEDDED, 4), (MOSQUITTO, 4), (MOSQUITTO, 5)])
async def test_node_publishes(foreign: Foreign, edge: str, version: int) -> None:
    need("mosquitto", edge in foreign.tcp)
    device = f"in-node-{version}"
    await in_node(telemetry(foreign, edge, device, f"mqtt://127.0.0.1:{foreign.tcp[edge]}", version))
    assert await foreign.counted(edge, device) == (0, 0, True)


@pytest.mark.parametrize(("door", "version"), [("embedded", 4), ("mosquitto", 4), ("mosquitto", 5)])
async def test_node_asks_for_a_task(foreign: Foreign, door: str, version: int) -> None:
    need("mosquitto", door == "embedded" or has_mosquitto())
    login = foreign.door_login if door == "embedded" else (USER, PASSWORD)
    port = foreign.door if door == "embedded" else foreign.mosquitto_door
    task, reply_to = asking(f"mqtt://127.0.0.1:{port}", *login, f"by-node-{door}-{version}", version)
    await assert_asked(f"by-node-{door}-{version}", reply_to, await in_node(task))


@NODES
async def test_a_page_publishes(foreign: Foreign, edge: str, page: WebPage, tmp_path: Path) -> None:
    need("mosquitto", edge in foreign.websocket)
    url = f"ws://127.0.0.1:{foreign.websocket[edge]}/mqtt"
    await on_page(page, telemetry(foreign, edge, "on-page", url), tmp_path)
    assert await foreign.counted(edge, "on-page") == (0, 0, True)


async def test_a_page_asks_for_a_task(foreign: Foreign, page: WebPage, tmp_path: Path) -> None:
    url = f"ws://127.0.0.1:{foreign.cluster.broker.websocket_port}/mqtt"
    task, reply_to = asking(url, *foreign.door_login, "by-page")
    await assert_asked("by-page", reply_to, await on_page(page, task, tmp_path))
