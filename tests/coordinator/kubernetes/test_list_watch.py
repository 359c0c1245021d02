"""A follower knows the objects of a kind, whatever the API server answers, and asks seldom when something is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from heliograph.coordinator.kubernetes.api import Change, Object
from heliograph.coordinator.kubernetes.errors import Busy, Expired, NotServed
from heliograph.core.errors import Unreachable
from tests.coordinator.kubernetes.scripted_api import Followed, ScriptedApi, following, most_in_a_second, probe, silent

TEN_MINUTES = 600.0


async def ends_at_once(api: ScriptedApi, seconds: float) -> AsyncGenerator[Change, None]:
    for change in list[Change]():
        yield change


async def expires(api: ScriptedApi, seconds: float) -> AsyncGenerator[Change, None]:
    raise Expired("too old")
    yield


async def breaks_off(api: ScriptedApi, seconds: float) -> AsyncGenerator[Change, None]:
    await asyncio.sleep(0.01)
    raise Unreachable("the connection broke")
    yield


def test_the_first_list_is_told_and_then_what_a_watch_says() -> None:
    async def watch(api: ScriptedApi, seconds: float) -> AsyncGenerator[Change, None]:
        yield Change("ADDED", probe("b", 2))
        yield Change("MODIFIED", probe("a", 3, spec=1))
        yield Change("BOOKMARK", {"metadata": {"resourceVersion": "9"}})
        yield Change("DELETED", probe("b", 10))
        await asyncio.sleep(seconds)

    async def body(followed: Followed) -> None:
        await asyncio.sleep(1)
        assert followed.changed == ["n/a", "n/b", "n/a", "n/b"] and followed.names == "a"
        assert followed.follower.objects["n", "a"]["spec"] == 1

    api = ScriptedApi(probe("a", 1))
    api.watches = watch
    assert following(api, body).lines == []


def test_what_a_list_has_already_told_is_not_told_again() -> None:
    async def watch(api: ScriptedApi, seconds: float) -> AsyncGenerator[Change, None]:
        yield Change("ADDED", probe("a", 1))
        await asyncio.sleep(seconds)

    async def body(followed: Followed) -> None:
        await asyncio.sleep(2000)
        assert followed.changed == ["n/a"] and len(api.listed) > 2

    api = ScriptedApi(probe("a", 1))
    api.watches = watch
    following(api, body)


@pytest.mark.parametrize("watches", [ends_at_once, expires, breaks_off])
def test_a_server_whose_watches_fail_is_asked_seldom_and_its_changes_are_found(watches: object) -> None:
    async def body(followed: Followed) -> None:
        await asyncio.sleep(30)
        api.objects = [probe("a", 2), probe("b", 3)]
        await asyncio.sleep(31)
        assert followed.names == "a b" and followed.changed[-2:] == ["n/a", "n/b"]

    api = ScriptedApi(probe("a", 1))
    api.watches = watches  # type: ignore[assignment]
    followed = following(api, body)
    assert most_in_a_second(api.watched) <= 3 and most_in_a_second(api.listed) <= 3
    assert len(api.watched) <= 15
    assert len(followed.lines) <= 2  # the problem comes and goes with each attempt


def test_a_watch_that_says_something_before_it_ends_is_opened_a_few_times_a_second_at_most() -> None:
    async def watch(api: ScriptedApi, seconds: float) -> AsyncGenerator[Change, None]:
        api.version += 1
        yield Change("MODIFIED", probe("a", api.version))

    async def body(followed: Followed) -> None:
        await asyncio.sleep(60)

    api = ScriptedApi(probe("a", 1))
    api.watches = watch
    following(api, body)
    assert 60 <= len(api.watched) <= 240 and most_in_a_second(api.watched) <= 8 and len(api.listed) == 1


def test_watches_that_end_at_once_are_said_once() -> None:
    async def body(followed: Followed) -> None:
        await asyncio.sleep(600)

    api = ScriptedApi()
    api.watches = ends_at_once
    followed = following(api, body)
    assert len([line for line in followed.lines if "at once" in line]) == len(followed.lines) == 1
    assert followed.follower.problem == ""


def test_a_server_that_is_away_for_ten_minutes_is_said_once_and_what_is_known_stays() -> None:
    async def watch(api: ScriptedApi, seconds: float) -> AsyncGenerator[Change, None]:
        while api.fails is None:
            await asyncio.sleep(1)
        raise Unreachable("connection refused")
        yield

    async def body(followed: Followed) -> None:
        api.fails = Unreachable("connection refused")
        await asyncio.sleep(TEN_MINUTES)
        assert followed.follower.problem == "connection refused" and followed.names == "a b"
        assert followed.changed == ["n/a", "n/b"] and followed.follower.synced.is_set()
        pauses = [later - earlier for earlier, later in zip(api.listed[1:], api.listed[2:], strict=False)]
        assert max(pauses) <= 20 and len(api.listed) < 90
        api.fails, api.objects = None, [probe("a", 1), probe("c", 5)]
        await asyncio.sleep(15)
        assert followed.follower.problem == "" and followed.names == "a c"
        assert followed.resumed == ["probes"] and sorted(followed.changed[2:]) == ["n/a", "n/b", "n/c"]
        assert followed.lines == ["Kubernetes: connection refused", "Kubernetes: probes.example.com are followed again"]

    api = ScriptedApi(probe("a", 1), probe("b", 2))
    api.watches = watch
    following(api, body)


def test_each_reason_is_said_and_each_of_them_once() -> None:
    async def body(followed: Followed) -> None:
        for reason in ("refused", "refused", "forbidden", "refused"):
            api.fails = Unreachable(reason)
            await asyncio.sleep(60)
        assert followed.lines == [f"Kubernetes: {reason}" for reason in ("refused", "forbidden", "refused")]

    api = ScriptedApi()
    api.fails = Unreachable("refused")
    following(api, body)


def test_a_change_that_no_watch_tells_is_found_by_the_next_list() -> None:
    async def body(followed: Followed) -> None:
        api.objects = [probe("b", 2)]
        await asyncio.sleep(TEN_MINUTES * 0.5)
        assert followed.names == "a" and len(api.listed) == 1
        await asyncio.sleep(TEN_MINUTES * 0.5 + 1)
        assert followed.names == "b" and followed.changed == ["n/a", "n/b", "n/a"]
        assert followed.resumed == followed.lines == []

    api = ScriptedApi(probe("a", 1))
    following(api, body)
    assert all(length <= 290 for length in api.lengths) and len(set(api.lengths)) > 1


def test_a_watch_that_ends_after_its_time_is_opened_again_at_once() -> None:
    async def body(followed: Followed) -> None:
        await asyncio.sleep(279)
        assert len(api.watched) == 1
        await asyncio.sleep(72)
        assert len(api.watched) == 2 and api.watched[1] - api.watched[0] == api.lengths[0]

    api = ScriptedApi()
    following(api, body, watch_seconds=350)


def test_objects_are_gone_once_two_answers_say_that_their_kind_is_not_served() -> None:
    async def watch(api: ScriptedApi, seconds: float) -> AsyncGenerator[Change, None]:
        while api.fails is None:
            await asyncio.sleep(1)
        raise api.fails
        yield

    async def body(followed: Followed) -> None:
        api.fails = NotServed("apply its definition")
        await asyncio.sleep(1.01)
        assert followed.names == "a" and followed.follower.problem == "apply its definition"
        await asyncio.sleep(3)
        assert followed.names == "" and followed.changed == ["n/a", "n/a"]
        api.fails = None
        await asyncio.sleep(15)
        assert followed.names == "a" and followed.changed[2:] == ["n/a"] and followed.follower.problem == ""

    api = ScriptedApi(probe("a", 1))
    api.watches = watch
    following(api, body)


def test_one_answer_that_the_kind_is_not_served_takes_nothing_away() -> None:
    async def watch(api: ScriptedApi, seconds: float) -> AsyncGenerator[Change, None]:
        if len(api.watched) == 1:
            raise NotServed("the server starts")
        await asyncio.sleep(seconds)
        yield Change("BOOKMARK", {})

    async def body(followed: Followed) -> None:
        await asyncio.sleep(5)
        assert followed.names == "a" and followed.follower.problem == ""

    api = ScriptedApi(probe("a", 1))
    api.watches = watch
    following(api, body)


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks_for() -> None:
    async def body(followed: Followed) -> None:
        await asyncio.sleep(100)
        assert [later - earlier >= 40 for earlier, later in zip(api.listed, api.listed[1:], strict=False)] == [True] * 2

    api = ScriptedApi()
    api.fails = Busy("too much to do", 40)
    following(api, body)


def test_what_is_remembered_is_small() -> None:
    def keep(given: Object) -> Object:
        return {"metadata": given["metadata"]}

    async def body(followed: Followed) -> None:
        metadata = {"name": "a", "namespace": "n", "resourceVersion": "1"}
        assert followed.follower.objects == {("n", "a"): {"metadata": metadata}}

    given = probe("a", 1, spec={"large": "x" * 1000})
    given["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    following(ScriptedApi(given), body, keep=keep)


@pytest.mark.parametrize(
    "strange", [{}, {"metadata": None}, {"metadata": {"name": 5}}, {"metadata": {"namespace": "n"}}]
)
def test_an_object_without_a_name_is_passed_over(strange: Object) -> None:
    async def watch(api: ScriptedApi, seconds: float) -> AsyncGenerator[Change, None]:
        yield Change("ADDED", strange)
        yield Change("ADDED", probe("b", 2))
        await asyncio.sleep(seconds)

    async def body(followed: Followed) -> None:
        await asyncio.sleep(1)
        assert followed.names == "a b" and followed.lines == []

    api = ScriptedApi(strange, probe("a", 1))
    api.watches = watch
    following(api, body)


def test_a_defect_is_said_and_ends_nothing() -> None:
    def keep(given: Object) -> Object:
        return given["nothing"]

    async def body(followed: Followed) -> None:
        api.objects = [probe("a", 1)]
        api.watches = expires
        await asyncio.sleep(1000)
        assert "KeyError" in followed.follower.problem and len(api.listed) < 130
        assert len([line for line in followed.lines if "KeyError" in line]) == 1

    api = ScriptedApi()
    following(api, body, keep=keep, watch_seconds=20, relist_seconds=20)


def test_a_follower_that_is_cancelled_closes_its_watch() -> None:
    async def body(followed: Followed) -> None:
        await asyncio.sleep(1)
        assert len(api.watched) == 1 and api.closed == 0

    api = ScriptedApi()
    api.watches = silent
    following(api, body)
    assert api.closed == 1
