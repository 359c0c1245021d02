"""``topics``: a line for each topic, the AsyncAPI document and the reference, without a cluster."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.registry import BUILT_IN

REFERENCE = Path(__file__).parents[2] / "topics.md"


def test_one_line_for_each_topic_with_its_roles(typed: Any) -> None:
    ran = typed("topics")
    assert (ran.code, ran.err) == (0, "")
    head, *lines = ran.out.splitlines()
    assert head.split() == ["TOPIC", "DELIVERY", "FROM", "TO", "PAYLOAD", "BRIDGED", "MAX", "STREAM", "WHAT"]
    assert [line.split()[0] for line in lines] == [topic.pattern for topic in BUILT_IN.topics]
    update = next(line.split() for line in lines if line.startswith("edge/{edge}/up/model-update/"))
    assert update[1:5] == ["event", "worker,agent,participant", "cloud-worker", "ModelUpdate"]
    assert update[5:8] == ["up", "524288", "UPDATES"]


async def test_in_a_terminal_the_list_fits_the_width(alone: Any) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heliograph.cli.main", "topics"),
        stdout=theirs,
        env=os.environ | {"COLUMNS": "72", "NO_COLOR": "1"},
    )
    os.close(theirs)
    text = await asyncio.to_thread(_read_all, ours)
    assert await process.wait() == 0
    lines = text.splitlines()
    assert max(map(len, lines)) <= 72
    for topic in BUILT_IN.topics:
        assert any(line.startswith(topic.pattern) for line in lines), topic.pattern
    assert "EVENT" in lines


def test_markdown_is_the_reference_in_the_repository(typed: Any) -> None:
    ran = typed("topics", "--markdown")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == REFERENCE.read_text(), "topics.md is not up to date: make topics"


def test_asyncapi_is_a_whole_document(typed: Any) -> None:
    ran = typed("topics", "--asyncapi")
    assert (ran.code, ran.err) == (0, "")
    document = json.loads(ran.out)
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    channels, operations = document["channels"], document["operations"]
    addresses = {channel["address"] for channel in channels.values()}
    assert {"heliograph/request/jobs/create", "heliograph/status/jobs/{name}"} <= addresses
    wanted = {f"heliograph/{topic.pattern.replace('#', '{rest}')}" for topic in BUILT_IN.topics}
    assert wanted - addresses == {"heliograph/request/{resource}/{verb}", "heliograph/status/{resource}/{name}"}
    for channel in channels.values():
        words = {word[1:-1] for word in channel["address"].split("/") if word.startswith("{")}
        assert words == channel["parameters"].keys()
    publishers = {topic.name: topic.publishers for topic in BUILT_IN.topics}
    sent = {name: set(publishers[channel["title"]]) for name, channel in channels.items()}
    for name, operation in operations.items():
        role, action, channel = operation["tags"][0]["name"], operation["action"], name.split("-send-")[-1]
        assert action in ("send", "receive")
        if action == "send":
            sent[channel].discard(role)
    assert not any(sent.values()), "a role that publishes has no operation"
    references = list(_references(document))
    assert len(references) > 100
    for reference in references:
        assert reference.startswith("#/")
        place: Any = document
        for step in reference[2:].split("/"):
            place = place[step]
        assert isinstance(place, dict), reference


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--yaml"], "no such option: --yaml"),
        (["jobs"], "got unexpected extra argument"),
        (["--asyncapi", "--markdown"], "expected one form, got --asyncapi and --markdown"),
    ],
)
def test_unknown_options_are_refused(typed: Any, option: list[str], message: str) -> None:
    ran = typed("topics", *option)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.error


async def test_a_closed_pipe_leaves_no_traceback(alone: Any) -> None:
    reader, writer = os.pipe()
    process = await alone.start("topics", "--asyncapi", stdout=writer)
    os.close(writer)
    assert await asyncio.to_thread(os.read, reader, 1) == b"{"
    os.close(reader)
    assert await process.stderr.read() == b""
    assert await process.wait() in (0, 1)


def _references(tree: Any) -> Any:
    if isinstance(tree, dict):
        if isinstance(tree.get("$ref"), str):
            yield tree["$ref"]
        for value in tree.values():
            yield from _references(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _references(value)


def _read_all(terminal: int) -> str:
    found = b""
    while True:
        try:
            found += os.read(terminal, 65536)
        except OSError:  # the terminal's last writer has ended
            os.close(terminal)
            return found.decode().replace("\r\n", "\n")


def test_access_rules_for_mosquitto_name_each_login(typed: Any) -> None:
    ran = typed("topics", "--mosquitto-acl", "cloud", "--login", "coordinator=coordinator", "--login", "alice=user")
    assert (ran.code, ran.err) == (0, "")
    everybody, coordinator, alice = ran.out.split("\nuser ")
    assert "topic read heliograph/status/#" in everybody
    assert "write" not in everybody
    assert coordinator.splitlines()[:2] == ["coordinator", "topic write heliograph/#"]
    assert {"topic write heliograph/request/+/+", "topic read heliograph/reply/alice/+"} <= set(alice.splitlines())


@pytest.mark.parametrize("login", ["alice", "alice=king", "=user", "a b=user", "#=agent"])
def test_a_login_of_no_role_is_refused(typed: Any, login: str) -> None:
    ran = typed("topics", "--mosquitto-acl", "cloud", "--login", login)
    assert ran.code == 2
    assert "--login: expected NAME=ROLE with ROLE of user, operator, coordinator" in ran.error
