"""Texts that people and brokers give: addresses, URLs, and inference requests."""

from __future__ import annotations

import contextlib
import json
import random  # noqa: TID251 only its type: the generator is seeded
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract import registry
from heliograph.bus.contract.event import parse
from heliograph.bus.contract.registry import declared
from heliograph.bus.reply import reply_address, reply_in_bytes, reply_of
from heliograph.bus.traces.patterns import check_pattern, disjoint, matcher
from heliograph.bus.transport import Message, require_plain
from heliograph.core.errors import HeliographError
from heliograph.core.tree_file import parse as parse_file
from heliograph.edge_agent.datasets import resolve
from heliograph.inference.inputs import request_in, sample_in
from heliograph.simulations.input_fuzz.hostile_values import TEXTS
from heliograph.simulations.input_fuzz.mutate import mutate_bytes
from heliograph.simulations.input_fuzz.target import Draw, Target
from heliograph.simulations.input_fuzz.targets.documents import forms

_URLS = (
    "nats://user:secret@127.0.0.1:4222", "mqtt://broker", "tls://h:1?tls_ca=/x&tls_insecure=1", "nats://[::1]:4222/x",
    "mqtts://u@h:8883?tls_cert=a&tls_key=b", "memory://x", "ws://h:80/path", "file:///data/x.npz", "x/../y.csv",
)  # fmt: skip
_ADDRESSES = tuple(topic.pattern.replace("{", "").replace("}", "").replace("#", "x") for topic in declared().topics)
_YAML = (
    "apiVersion: edgeai.io/v1alpha1\nkind: Model\nmetadata: {name: m}\nspec: {}\n---\nkind: Dataset\n",
    "a: &x [1, 2]\nb: *x\nc: {<<: {d: 1}}\n", "- 2026-01-01\n- !!binary AA==\n- 0x10\n- .inf\n- ~\n",
    "a: &a [x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c, *c]\n", "? [a]\n: !!python/object:os.system x\n",
)  # fmt: skip


def _text(choices: tuple[str, ...]) -> tuple[Draw, Draw]:
    def valid(rng: random.Random) -> bytes:
        return rng.choice(choices).encode()

    def mutated(rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return mutate_bytes(rng, valid(rng), valid(rng))
        odd = rng.choice([text for text in TEXTS if isinstance(text, str)])
        whole, at = rng.choice(choices), rng.randrange(40)
        return (whole[:at] + odd + whole[at + rng.choice((0, 1, 5)) :]).encode()

    return valid, mutated


def _read_address(body: bytes, scratch: Path) -> None:
    text = body.decode(errors="replace")
    registry.lookup(text)
    message = Message(text, body, reply_to=text)
    for check in (registry.find, require_plain, check_pattern, lambda each: reply_address(each, each, "heliograph"),
                  lambda each: reply_of(message, {"reply_to": each}, "heliograph")):  # fmt: skip
        try:
            check(text)
        except HeliographError as error:
            json.dumps(str(error)).encode()
    reply_in_bytes(b'"reply_to":"' + body + b'"' + body, "heliograph")
    pattern = check_pattern(text)
    matcher([pattern])(text)
    disjoint([pattern, "event/#"])


def _read_url(body: bytes, scratch: Path) -> None:
    text = body.decode(errors="replace")
    with contextlib.suppress(HeliographError):
        resolve(text, [scratch])
    found = ConnectionUrl.parse(text)
    assert "secret" not in found.shown
    assert found.addresses


def _request(rng: random.Random) -> dict[str, Any]:
    x = np.ones(rng.choice(((), (3,), (2, 2), (0,))), rng.choice(("float32", "int8", "bool")))
    typed = {"dtype": x.dtype.name, "shape": list(x.shape), "data": x.tobytes()}
    image = {"image": b"\x89PNG\r\n\x1a\n"}
    return {"input": rng.choice((typed, x.tolist(), [[1, 2.5], [3, 4]], image)), "deadline": 0.5}


def _read_request(body: bytes, scratch: Path) -> None:
    topic = "inference/a/request"
    sample_in(request_in(parse(body, topic), topic), topic)


def _read_file(body: bytes, scratch: Path) -> None:
    for tree, _ in parse_file(body.decode(errors="replace"), "file"):
        json.dumps(tree).encode()


_ADDRESS, _URL, _REQUEST, _FILE = _text(_ADDRESSES), _text(_URLS), forms(_request), _text(_YAML)
TARGETS = (
    Target("address", _ADDRESS[0], _read_address, _ADDRESS[1]),
    Target("url", _URL[0], _read_url, _URL[1]),
    Target("inference-request", _REQUEST[0], _read_request, _REQUEST[1]),
    Target("file", _FILE[0], _read_file, _FILE[1]),
)
