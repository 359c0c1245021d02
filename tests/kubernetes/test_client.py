"""The client against servers that fail: errors say what to do, are bounded in time and size, and show no secret."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from heliograph.coordinator.kubernetes import bounded_reading, client
from heliograph.coordinator.kubernetes.api import JOBS, Kind
from heliograph.coordinator.kubernetes.client import KubernetesClient
from heliograph.coordinator.kubernetes.errors import Busy, Expired, Forbidden
from heliograph.core.errors import Refused, Unreachable
from heliograph.core.world import World
from tests.kubernetes.api_server.server import ApiServer
from tests.patience import HANGS

MODELS = Kind("edgeai.io", "v1alpha1", "models", "Model")


def model(name: str, **spec: object) -> dict[str, object]:
    return {"metadata": {"name": name}, "spec": spec}


async def test_a_server_that_is_gone_is_unreachable_and_found_again(
    api_server: ApiServer, kubernetes: KubernetesClient
) -> None:
    await kubernetes.create(MODELS, "default", model("a"))
    await api_server.stop()
    with pytest.raises(Unreachable, match=r"API server 127\.0\.0\.1.* cannot be reached"):
        await kubernetes.list(MODELS)
    await api_server.start()
    assert len((await kubernetes.list(MODELS))[0]) == 1


async def test_a_watch_ends_with_an_error_when_the_server_goes(
    api_server: ApiServer, kubernetes: KubernetesClient
) -> None:
    watching = asyncio.create_task(anext(kubernetes.watch(MODELS, "111")))
    async with asyncio.timeout(HANGS):
        await api_server.watched.wait()
        await api_server.stop()
        with pytest.raises((Unreachable, StopAsyncIteration)):
            await watching


async def test_a_server_that_takes_requests_and_answers_none_is_unreachable_in_time(
    api_server: ApiServer, kubernetes: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "REQUEST_SECONDS", 0.2)
    api_server.faults.hangs = True
    async with asyncio.timeout(HANGS):
        with pytest.raises(Unreachable, match="does not answer in time"):
            await kubernetes.get(MODELS, "default", "a")


async def test_a_watch_on_a_dead_connection_ends_a_moment_after_the_server_was_to_end_it(
    api_server: ApiServer, kubernetes: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SILENCE_AFTER_WATCH", 0.2)
    api_server.faults.silent_watches = True
    began = time.monotonic()
    async with asyncio.timeout(HANGS):
        with pytest.raises(Unreachable, match="does not answer in time"):
            async for _ in kubernetes.watch(MODELS, "111", seconds=1):
                pass
    assert time.monotonic() - began >= 1.2


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_that_fails_is_unreachable(
    api_server: ApiServer, kubernetes: KubernetesClient, status: int
) -> None:
    api_server.faults.status = status
    with pytest.raises(Unreachable, match=f"list models.edgeai.io: the API server cannot answer \\({status}"):
        await kubernetes.list(MODELS)


@pytest.fixture
async def slept(api_server: ApiServer) -> AsyncIterator[tuple[KubernetesClient, list[float]]]:
    """Return a client that does not wait, and the seconds for which it would have."""
    seconds = list[float]()

    async def sleep(pause: float) -> None:
        seconds.append(pause)
        if len(seconds) == 2:
            api_server.faults.status = 0

    found = await KubernetesClient.connect(replace(World(), sleep=sleep))
    yield found, seconds
    await found.close()


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_server_is_asked_again_after_the_time_that_it_names(
    api_server: ApiServer, slept: tuple[KubernetesClient, list[float]], status: int
) -> None:
    found, seconds = slept
    api_server.faults.status, api_server.faults.retry_after = status, "7"
    await found.create(MODELS, "default", model("a"))
    assert len(seconds) == 2 and all(7 <= pause <= 10.5 for pause in seconds)
    assert [method for method, _ in api_server.requests] == ["POST"] * 3


async def test_a_server_that_stays_busy_is_reported(api_server: ApiServer) -> None:
    async def sleep(pause: float) -> None:
        assert pause >= 1

    found = await KubernetesClient.connect(replace(World(), sleep=sleep))
    api_server.faults.status = 429
    with pytest.raises(Busy, match="too much to do"):
        await found.list(MODELS)
    assert len(api_server.requests) == 3
    await found.close()


async def test_a_missing_right_names_the_verb_and_the_resource_that_a_role_needs(
    api_server: ApiServer, kubernetes: KubernetesClient
) -> None:
    api_server.faults.forbidden = {
        ("update", "models.edgeai.io/status"), ("list", "jobs.batch"), ("watch", "jobs.batch"),
    }  # fmt: skip
    made = await kubernetes.create(MODELS, "default", model("a"))
    with pytest.raises(Forbidden, match=r"'update' on 'models\.edgeai\.io/status' in namespace default"):
        await kubernetes.replace_status(MODELS, "default", {**made, "status": {}})
    with pytest.raises(Forbidden, match=r"'list' on 'jobs\.batch' in all namespaces"):
        await kubernetes.list(JOBS)
    with pytest.raises(Forbidden, match=r"'watch' on 'jobs\.batch'"):
        await anext(kubernetes.watch(JOBS, "1"))


async def test_pages_that_expire_on_the_way_begin_again(
    api_server: ApiServer, kubernetes: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE", 2)
    for number in range(5):
        await kubernetes.create(MODELS, "default", model(f"m{number}"))
    api_server.requests.clear()
    list_page, forgotten = api_server._pages.list, list[str]()

    def forgetting(*given: object) -> object:
        if given[-1] and not forgotten:
            forgotten.append("once")
            api_server.store.forget()
        return list_page(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(api_server._pages, "list", forgetting)
    found, _ = await kubernetes.list(MODELS)
    assert [each["metadata"]["name"] for each in found] == [f"m{number}" for number in range(5)]
    assert len(api_server.requests) == 1 + 1 + 3


async def test_pages_that_expire_each_time_are_reported(
    api_server: ApiServer, kubernetes: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE", 1)
    for name in "ab":
        await kubernetes.create(MODELS, "default", model(name))
    list_page = api_server._pages.list

    def forgetting(*given: object) -> object:
        if given[-1]:
            api_server.store.forget()
        return list_page(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(api_server._pages, "list", forgetting)
    with pytest.raises(Expired):
        await kubernetes.list(MODELS)


async def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones(
    api_server: ApiServer, kubernetes: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        await kubernetes.create(MODELS, "default", model(f"m{number:02}", description="x" * 900))
    monkeypatch.setattr(bounded_reading.read_all, "__defaults__", (8_000,))
    monkeypatch.setattr(client, "PAGE", 50)
    found, _ = await kubernetes.list(MODELS)
    assert len(found) == 12
    monkeypatch.setattr(bounded_reading.read_all, "__defaults__", (500,))
    with pytest.raises(Unreachable, match=r"list models.*at most 500 bytes"):
        await kubernetes.list(MODELS)


async def test_a_line_of_a_watch_is_bounded(
    api_server: ApiServer, kubernetes: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_reading.lines_of, "__defaults__", (1_000,))
    await kubernetes.create(MODELS, "default", model("a", description="x" * 1000))
    with pytest.raises(Unreachable, match="line of at most 1000 bytes"):
        await anext(kubernetes.watch(MODELS, "0"))


@pytest.mark.parametrize("garbage", ["", "<html>a proxy</html>", "[1]", "null", "[" * 5000, '{"items": '])
async def test_what_is_no_answer_of_an_api_server_is_said(
    api_server: ApiServer, kubernetes: KubernetesClient, garbage: str
) -> None:
    api_server.faults.garbage = garbage
    with pytest.raises(Unreachable, match="expected JSON of an API server"):
        await kubernetes.list(MODELS)
    if garbage:
        with pytest.raises(Unreachable):
            async for _ in kubernetes.watch(MODELS, "111"):
                pass


@pytest.mark.parametrize("garbage", ['{"type": "ADDED"}', '{"type": "ODD", "object": {}}', '{"object": {"a": 1}}'])
async def test_a_change_that_is_none_is_said(api_server: ApiServer, kubernetes: KubernetesClient, garbage: str) -> None:
    api_server.faults.garbage = garbage + "\n"
    with pytest.raises(Unreachable, match=r"watch models\.edgeai\.io: expected"):
        await anext(kubernetes.watch(MODELS, "111"))


async def test_an_answer_that_breaks_off_is_said(api_server: ApiServer, kubernetes: KubernetesClient) -> None:
    api_server.faults.closed_body = True
    with pytest.raises(Unreachable):
        await kubernetes.list(MODELS)


@pytest.mark.parametrize("name", ["../secrets/token", "a/b", "a?b", "", "..", "a%2fb", "x" * 300])
async def test_a_name_is_no_path(api_server: ApiServer, kubernetes: KubernetesClient, name: str) -> None:
    with pytest.raises(Refused, match=r"metadata\.name"):
        await kubernetes.get(MODELS, "default", name)
    with pytest.raises(Refused, match=r"metadata\.name(space)?"):
        await kubernetes.delete(MODELS, name, "")
    assert api_server.requests == []


async def test_a_closed_watch_closes_its_connection(api_server: ApiServer, kubernetes: KubernetesClient) -> None:
    await kubernetes.create(MODELS, "default", model("a"))
    async with aclosing(kubernetes.watch(MODELS, "0")) as watch:
        await anext(watch)
        assert api_server.watching == 1
    async with asyncio.timeout(HANGS):
        while api_server.watching:
            await asyncio.sleep(0.01)
