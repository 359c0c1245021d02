"""Documents generated from the registry: ``topics.md`` is up to date, and the AsyncAPI document is consistent."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import RootModel

from heliograph.bus.contract.asyncapi import asyncapi
from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.contract.render import COMMAND, topics_markdown
from heliograph.bus.contract.topics import REQUEST, STATUS

ROOT = Path(__file__).parents[3]


def test_topics_md_is_up_to_date() -> None:
    assert (ROOT / "topics.md").read_text() == topics_markdown(), f"run '{COMMAND}'"


def test_topics_md_says_that_it_is_generated() -> None:
    assert f"`{COMMAND}`" in "\n".join(topics_markdown().splitlines()[:5])


def test_every_topic_stands_in_its_deliverys_table() -> None:
    text = topics_markdown()
    for topic in BUILT_IN.topics:
        section = text.partition(f"\n## {topic.delivery.capitalize()}\n")[2].partition("\n## ")[0]
        rows = [line for line in section.splitlines() if line.startswith(f"| `{topic.pattern}` |")]
        assert len(rows) == 1, topic.name
        for part in (*topic.publishers, *topic.subscribers, topic.payload.__name__, topic.doc):
            assert part in rows[0]
        if topic.stream is not None:
            assert f"`{topic.stream.name}`" in rows[0]
        assert len(re.findall(r"(?<!\\)\|", rows[0])) == 10


def test_every_payload_lists_its_fields() -> None:
    text = topics_markdown()
    for topic in BUILT_IN.topics:
        section = text.partition(f"\n### {topic.payload.__name__}\n")[2].partition("\n### ")[0]
        listed = re.findall(r"^\| `(\w+)` \|[^|]+\| (yes|no)", section, re.MULTILINE)
        expected = [] if issubclass(topic.payload, RootModel) else [
            (field.alias or name, "yes" if field.is_required() else "no")
            for name, field in topic.payload.model_fields.items()
            if not field.exclude  # the field never travels
        ]
        assert listed == expected, topic.payload.__name__


def test_every_resource_and_verb_is_listed() -> None:
    section = topics_markdown().partition("\n## Resources and verbs\n")[2]
    table = section.partition("\n### ")[0]
    for resource, verbs in BUILT_IN.verbs.items():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{resource}` |")]
        assert re.findall(r"`([\w-]+)`", row)[1:] == list(verbs)
    for kind in BUILT_IN.kinds:
        assert f"\n### {kind}\n" in section


def test_every_link_leads_somewhere() -> None:
    text = topics_markdown()
    anchors = {title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links
    assert links <= anchors


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


def resolve(document: dict[str, Any], ref: str) -> Any:
    assert ref.startswith("#/"), ref
    place: Any = document
    for part in ref.removeprefix("#/").split("/"):
        place = place[part.replace("~1", "/").replace("~0", "~")]
    return place


def test_every_ref_resolves() -> None:
    document = asyncapi()
    refs = [node["$ref"] for node in nodes(document) if "$ref" in node]
    assert len(refs) > 100
    for ref in refs:
        assert isinstance(resolve(document, ref), dict), ref


@pytest.mark.parametrize("topic", BUILT_IN.topics, ids=lambda topic: topic.name)
def test_every_topic_has_channels_messages_and_an_operation_for_each_role(topic: Any) -> None:
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    channels = {name: each for name, each in document["channels"].items() if each["title"] == topic.name}
    if topic is REQUEST:
        assert list(channels) == [f"{plural}-{verb}" for plural, verbs in BUILT_IN.verbs.items() for verb in verbs]
    elif topic is STATUS:
        assert list(channels) == [f"status-{plural}" for plural in BUILT_IN.features]
    else:
        assert list(channels) == [topic.name]
    for name, channel in channels.items():
        assert re.findall(r"{(\w+)}", channel["address"]) == list(channel["parameters"])
        assert channel["address"].startswith("heliograph/" + topic.words[0])
        performed = {
            (operation["action"], operation["tags"][0]["name"])
            for operation in document["operations"].values()
            if operation["channel"]["$ref"] == f"#/channels/{name}"
        }
        wanted = {("send", role) for role in topic.publishers} | {("receive", role) for role in topic.subscribers}
        assert performed == wanted


def test_every_operation_has_messages_of_its_channel_whose_payload_is_a_schema() -> None:
    document = asyncapi()
    for name, operation in document["operations"].items():
        assert operation["action"] in ("send", "receive"), name
        for part in (operation, operation.get("reply")):
            if part is None:
                continue
            own = resolve(document, part["channel"]["$ref"])["messages"]
            assert part["messages"], name
            for each in part["messages"]:  # AsyncAPI: an operation's messages are its channel's
                referred = resolve(document, each["$ref"])
                assert referred in own.values()
                message = resolve(document, referred["$ref"])
                assert resolve(document, message["payload"]["$ref"])["title"]


def test_requests_answers_and_statuses_refer_to_their_resources() -> None:
    document = asyncapi()
    schemas, messages = document["components"]["schemas"], document["components"]["messages"]

    def reached(name: str, seen: set[str]) -> set[str]:
        for ref in re.findall(r"#/components/schemas/(\w+)", json.dumps(schemas[name])):
            if ref not in seen:
                seen.add(ref)
                reached(ref, seen)
        return seen

    for plural, feature in BUILT_IN.features.items():
        kind = feature.kind.__name__
        assert messages[f"status-{plural}"]["payload"]["$ref"].endswith(f"/{kind}")
        for verb in feature.verb_names:
            operation = document["operations"][f"user-send-{plural}-{verb}"]
            (answer,) = operation["reply"]["messages"]
            assert answer["$ref"] == f"#/channels/reply/messages/{plural}-{verb}-reply"
            found = reached(messages[f"{plural}-{verb}-reply"]["payload"]["$ref"].rpartition("/")[2], set())
            own = feature.own_verbs.get(verb)
            if own is not None:
                assert {own.answer.__name__ if own.answer is not None else kind, "ErrorAnswer"} <= found
                continue
            assert {f"{kind}Status" if verb == "status" else kind, "ErrorAnswer"} <= found
            if verb in ("create", "update"):
                assert kind in reached(messages[f"{plural}-{verb}"]["payload"]["$ref"].rpartition("/")[2], set())


def test_the_document_has_the_fields_that_asyncapi_3_requires_and_no_others() -> None:
    document = asyncapi()
    fields = {
        "channels": {"address", "messages", "title", "summary", "description", "servers", "parameters", "tags",
                     "externalDocs", "bindings"},
        "operations": {"action", "channel", "title", "summary", "description", "security", "tags", "externalDocs",
                       "bindings", "traits", "messages", "reply"},
        "messages": {"headers", "payload", "correlationId", "contentType", "name", "title", "summary", "description",
                     "tags", "externalDocs", "bindings", "examples", "traits"},
    }  # fmt: skip
    for kind, known in fields.items():
        parts = document["components"]["messages"] if kind == "messages" else document[kind]
        for name, part in parts.items():
            assert re.fullmatch(r"[\w.-]+", name), name
            assert not {each for each in part if not each.startswith("x-")} - known, (kind, name)
    for channel in document["channels"].values():
        for parameter in channel["parameters"].values():
            assert parameter.keys() <= {"enum", "default", "description", "examples", "location"}


def test_the_servers_are_both_buses() -> None:
    assert {server["protocol"] for server in asyncapi()["servers"].values()} == {"nats", "mqtt"}


def test_a_payloads_schema_has_the_rules_of_its_model() -> None:
    schemas = asyncapi()["components"]["schemas"]
    assert "additionalProperties" not in schemas["ModelUpdate"]  # a sender of another version may add fields
    assert schemas["FederatedTaskSpec"]["additionalProperties"] is False
    assert set(schemas["WeightsRef"]["required"]) == {"digest", "size"}
    label = re.compile(schemas["ModelUpdate"]["properties"]["edge"]["pattern"])
    assert label.search("edge-1")
    assert not label.search("edge.1")
    assert schemas["WeightsRef"]["properties"]["digest"]["pattern"] == "^[0-9a-f]{64}$"
    assert schemas["TrainTask"]["properties"]["active"]["description"].startswith("False where the worker has nothing")
    assert schemas["RoundSpec"]["properties"]["quorum"]["description"].startswith("Number of valid updates")
    assert "Attributes:" not in json.dumps(schemas)


def test_the_documents_are_the_same_in_another_process() -> None:
    """Hash seeds differ between processes, and with them the order of sets."""
    script = (
        "import json; from heliograph.bus.contract.asyncapi import asyncapi; "
        "from heliograph.bus.contract.render import topics_markdown;"
        "print(json.dumps([asyncapi(), topics_markdown()]))"
    )
    there = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONHASHSEED": "7"}, capture_output=True, check=True, text=True
    )
    assert there.stdout == json.dumps([asyncapi(), topics_markdown()]) + "\n"


def test_a_change_of_one_document_does_not_show_in_the_next() -> None:
    first = asyncapi()
    first["components"]["schemas"]["TrainTask"].clear()
    assert asyncapi()["components"]["schemas"]["TrainTask"]
