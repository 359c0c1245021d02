"""Addresses: ``find`` finds each address that ``at`` makes, and every word is a DNS label."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from heliograph.bus.contract import registry
from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.contract.topics import INFERENCE_REQUEST, LOG, MODEL_UPDATE, TASK, WORKER, Topic
from heliograph.core.errors import Refused
from heliograph.core.names import check_label, is_digest, is_label, join_labels, matches

labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
NO_LABELS = [
    "", "A", "Edge", "a_b", "a.b", "a b", " a", "a\n", "+", "#", "*", ">", "$sys", "-a", "a-", "-", "a" * 64, "é",
    "²", "a\x00",
]  # fmt: skip
every_topic = pytest.mark.parametrize("topic", BUILT_IN.topics, ids=lambda topic: topic.name)


def has_tail(topic: Topic[Any]) -> bool:
    return topic.words[-1] == "#"


@st.composite
def addresses(draw: st.DrawFn) -> tuple[Topic[Any], tuple[str, ...], dict[str, str]]:
    topic = draw(st.sampled_from(BUILT_IN.topics))
    rest = draw(st.lists(labels, min_size=1, max_size=3)) if has_tail(topic) else []
    return topic, tuple(rest), {name: draw(labels) for name in topic.params}


@given(addresses())
def test_find_finds_each_address_that_at_makes(made: tuple[Topic[Any], tuple[str, ...], dict[str, str]]) -> None:
    topic, rest, params = made
    address = topic.at(*rest, **params)
    assert registry.find(address) == (topic, params)
    assert [each for each in BUILT_IN.topics if each.match(address) is not None] == [topic]
    assert topic in registry.declared().find_by_filter(topic.filter())


@given(addresses(), st.data())
def test_filter_matches_each_address_that_at_makes(
    made: tuple[Topic[Any], tuple[str, ...], dict[str, str]], data: st.DataObject
) -> None:
    topic, rest, params = made
    address = topic.at(*rest, **params)
    fixed = {name: value for name, value in params.items() if data.draw(st.booleans())}
    assert matches(topic.filter(**fixed), address)
    for name, value in params.items():
        other = data.draw(labels)
        assume(other != value)
        assert not matches(topic.filter(**{name: other}), address)


@every_topic
def test_no_other_topics_filter_matches(topic: Topic[Any]) -> None:
    address = topic.at(*(["rest"] if has_tail(topic) else []), **dict.fromkeys(topic.params, "x"))
    assert [each.name for each in BUILT_IN.topics if matches(each.filter(), address)] == [topic.name]


@every_topic
@pytest.mark.parametrize("word", NO_LABELS, ids=repr)
def test_a_name_that_is_no_label_is_refused(topic: Topic[Any], word: str) -> None:
    rest = ["rest"] if has_tail(topic) else []
    good = dict.fromkeys(topic.params, "x")
    for name in topic.params:
        with pytest.raises(Refused) as refused:
            topic.at(*rest, **{**good, name: word})
        assert refused.value.field == name
        assert "DNS label" in refused.value.expected
        with pytest.raises(Refused):
            topic.filter(**{name: word})
        at = topic.words.index("{" + name + "}")
        words = topic.at(*rest, **good).split("/")
        assert topic.match("/".join([*words[:at], word, *words[at + 1 :]])) is None
    if rest:
        with pytest.raises(Refused):
            topic.at("rest", word, **good)
        assert topic.match("/".join([topic.at("rest", **good), word])) is None


def test_a_slash_smuggles_no_word_in() -> None:
    with pytest.raises(Refused):
        TASK.at(edge="a/b")
    with pytest.raises(Refused):
        TASK.filter(edge="a/b")
    with pytest.raises(Refused):
        LOG.at("a/b", edge="e", component="c")


def test_a_closing_hash_is_one_word_or_more() -> None:
    """An address without such a word would reach MQTT's subscribers, but not those of NATS."""
    address = LOG.at("a", "b", edge="e", component="x")
    assert LOG.match(address) is not None
    assert LOG.match(address.removesuffix("/a/b")) is None
    with pytest.raises(Refused):
        LOG.at(edge="e", component="x")
    with pytest.raises(Refused):
        TASK.at("more", edge="edge-1")


@given(st.text(max_size=80))
def test_find_finds_a_declared_topic_or_refuses(address: str) -> None:
    try:
        topic, params = registry.find(address)
    except Refused as refused:
        assert refused.code == "unknown-topic"
        assert refused.topic == address
    else:
        assert all(is_label(value) for value in params.values())
        assert matches(topic.filter(), address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", "request/{resource}/{verb}"),
        ("edge", "edge/{edge}/down/task"),
        ("edge/a/task", "edge/{edge}/down/task"),
        ("event/task/a", "edge/a/down/task, its name since 0.2"),
        ("event/evaluation/job", "edge/cloud/up/evaluation/job"),
        ("log/agent/a/b", "edge/a/up/log/agent/b"),
        ("edge/a/down/task/b", "edge/{edge}/down/task"),
        ("event/other/a", "event/aggregation/{job}"),
        ("heliograph/edge/a/down/task", "edge/{edge}/down/task"),
        ("request/jobs", "request/{resource}/{verb}"),
    ],
)
def test_an_undeclared_address_is_refused_with_the_declared_ones(address: str, expected: str) -> None:
    with pytest.raises(Refused) as refused:
        registry.find(address)
    assert refused.value.code == "unknown-topic"
    assert expected in refused.value.expected


def test_match_returns_the_parameters() -> None:
    assert MODEL_UPDATE.match("edge/edge-7/up/model-update/job-1") == {"job": "job-1", "edge": "edge-7"}
    assert MODEL_UPDATE.match("edge/edge-7/up/hard-sample/job-1") is None
    assert MODEL_UPDATE.filter() == "edge/+/up/model-update/+"
    assert MODEL_UPDATE.filter(job="job-1") == "edge/+/up/model-update/job-1"
    assert INFERENCE_REQUEST.filter() == "inference/+/request"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("edge/edge-1/down/task", {"task"}),
        ("event/+/edge-1", {"aggregation", "job-ended", "assignment", "worker"}),
        ("event/+/+/+", {"telemetry"}),
        ("edge/+/down/#", {"task", "inference-big-model-answer", "blob-chunk", "upload-ask", "upload-settled",
                           "model-ready"}),
        ("edge/edge-1/up/+/job", {"model-update", "evaluation", "candidate", "verdict", "pair-result", "hard-sample",
                                  "label", "label-task", "inference-big-model", "upload-chunk"}),
        ("status/#", {"status"}),
        ("edge/a/up/log/b/c/d", {"log"}),
        ("edge/a/up/log/agent", set()),
        ("#", {topic.name for topic in BUILT_IN.topics}),
        ("nothing/#", set()),
    ],
)
def test_find_by_filter(pattern: str, names: set[str]) -> None:
    assert {topic.name for topic in registry.declared().find_by_filter(pattern)} == names


def test_the_registry_is_consistent() -> None:
    assert len({topic.name for topic in BUILT_IN.topics}) == len(BUILT_IN.topics)
    streams = registry.declared().streams()
    assert len({stream.name for stream in streams}) == len(streams)
    for topic in BUILT_IN.topics:
        assert topic.doc
        assert topic.words[0] == topic.delivery or topic.words[0] == "reply" or topic.of_edge
        assert not topic.of_edge or topic.words[1] == "{edge}"
        assert topic.of_edge == ("edge" in topic.params) or topic.name in ("telemetry", "inference-answer")
        ways = {"up": "up", "down": "down"}
        assert topic.bridged == "no" or not topic.of_edge or topic.words[2] == ways[topic.bridged]
        kept = topic.delivery in ("event", "log") and not topic.node_only
        assert kept == (topic.stream is not None), topic.name
        assert (topic.delivery == "event" and kept) == topic.awaits_storing, topic.name
        assert topic.bridged == "no" or not topic.node_only, topic.name
        assert topic.own_name or topic.type == f"heliograph.{topic.name}.v1"


def test_a_payload_is_validated_at_the_border() -> None:
    payload = WORKER.validate({"worker": "w", "state": "hello"}, "event/worker/w")
    assert payload.state == "hello"
    for data, field in (
        ({"worker": "w", "state": "lost"}, "state"),
        ({"worker": "W", "state": "hello"}, "worker"),
        ({"state": "hello"}, "worker"),
        ([], ""),
        (None, ""),
    ):
        with pytest.raises(Refused) as refused:
            WORKER.validate(data, "event/worker/w")
        assert (refused.value.topic, refused.value.field) == ("event/worker/w", field)
        assert refused.value.expected


@given(st.lists(labels, min_size=1, max_size=4))
def test_joined_labels_are_a_label_and_stay_distinct(parts: list[str]) -> None:
    joined = join_labels(*parts)
    assert is_label(joined)
    assert join_labels(*parts[:-1], parts[-1][:-1] + ("a" if parts[-1][-1] != "a" else "b")) != joined


@given(st.text())
def test_check_label_agrees_with_is_label(text: str) -> None:
    if is_label(text):
        assert check_label(text) == text
        assert 1 <= len(text) <= 63
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    else:
        with pytest.raises(ValueError, match="DNS label"):
            check_label(text)


def test_a_digest_is_a_sha256_in_lower_case() -> None:
    assert is_digest("0123456789abcdef" * 4)
    assert not is_digest("0123456789ABCDEF" * 4)
    assert not is_digest("0" * 63)
    assert not is_digest("0" * 64 + "\n")
    assert not is_digest(None)
