"""Row 14: a user with an MQTT client asks as README and topics.md print it, by MQTT 3.1.1 and by MQTT 5; row 13: the
service that is asked says when it answers, and what keeps it from that."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio

from heliograph import JointInference
from heliograph.bus.contract.examples import DEVICE_REPLY_TO, INFERENCE, REPLY_TO, REQUESTS, SERVICE, Example
from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.contract.topics import STATUS
from heliograph.client import AsyncClient
from heliograph.core.error_codes import ANSWERS, ELSEWHERE
from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import OPERATOR
from heliograph.local.logins import write_user_files
from heliograph.local.mosquitto import find_mosquitto
from heliograph.local.mosquitto_door import password_file
from heliograph.local.nats_server import Broker
from tests.patience import HANGS

ROOT = Path(__file__).parents[2]
EDGE = """
from heliograph import JointInference
JointInference("flowers", edge=lambda batch: [[0.9, 0.1]] * len(batch), classes=["setosa", "virginica"]).serve()
"""
CLOUD = """
from heliograph import BigModel
BigModel("flowers", lambda batch: [[0.8, 0.2]] * len(batch), classes=["setosa", "virginica"]).serve()
"""
LATE = """
from pathlib import Path
from heliograph import BigModel
here = Path(__file__).parent
if not (here / "mended").exists():
    raise OSError("cannot read weights.bin")
def model(batch):
    if (here / "broken").exists():
        raise RuntimeError("out of memory")
    return [[0.2, 0.8]] * len(batch)
BigModel("late", model, classes=["setosa", "virginica"]).serve()
"""
BY_TYPE = ("phase", "seconds", "version")
"""Fields whose values a run decides."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalCluster]:
    """A cluster with the edge ``edge-1``; with mosquitto's door, where it is installed."""
    directory = tmp_path_factory.mktemp("mqtt")
    code = directory / "code"
    code.mkdir()
    (code / "edge.py").write_text(EDGE)
    (code / "cloud.py").write_text(CLOUD)
    (code / "late.py").write_text(LATE)
    try:
        installed = bool(find_mosquitto())
    except HeliographError:
        installed = False
    async with LocalCluster(directory / "cluster", ["edge-1"], code=(code,), mosquitto=installed) as cluster:
        yield cluster


async def answer_of(client: aiomqtt.Client, example: Example) -> Any:
    """Send an example by MQTT 3.1.1, and return its answer."""
    await client.publish(f"heliograph/{example.topic}", json.dumps(example.body), qos=1)
    async with asyncio.timeout(HANGS):
        return json.loads(bytes((await anext(aiter(client.messages))).payload))


def client_of(broker: Broker, user: str = "") -> aiomqtt.Client:
    login = {"username": user, "password": broker.password(user)} if user else {}
    return aiomqtt.Client(broker.host, broker.mqtt_port, **login)  # type: ignore[arg-type]


def misfit(printed: Any, real: Any, at: str = "answer") -> str:
    """Return where a real answer lacks what is printed, or has another value; empty where it has all of it."""
    if isinstance(printed, dict):
        if not isinstance(real, dict):
            return f"{at} is {real!r}"
        for key, value in printed.items():
            if key not in real:
                return f"{at} has no {key}: {real!r}"
            if key in BY_TYPE or value == "…":
                if type(real[key]) is not type(value):
                    return f"{at}.{key} is {real[key]!r}"
            elif found := misfit(value, real[key], f"{at}.{key}"):
                return found
        return ""
    if isinstance(printed, list) and printed and isinstance(printed[0], dict):
        found = [misfit(printed[0], each, f"{at}[]") for each in real]
        return "" if "" in found else f"{at}: {found[:3]}"
    return "" if printed == real else f"{at} is {real!r}, not {printed!r}"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_user_sends_each_printed_body_and_gets_an_answer_of_the_printed_shape(shared: LocalCluster) -> None:
    assert {example.topic for example in REQUESTS} == {
        f"request/{plural}/{verb}" for plural, verbs in BUILT_IN.verbs.items() for verb in verbs
    }
    node, last = shared.nodes["edge-1"].broker, REQUESTS[-1]
    assert node is not None and last.topic == "request/services/delete"
    async with (
        client_of(shared.broker, OPERATOR) as user,
        client_of(node) as device,
        AsyncClient(shared.server, timeout=HANGS) as operator,
    ):
        await user.subscribe(REPLY_TO, qos=1)
        await device.subscribe(DEVICE_REPLY_TO, qos=1)
        for example in REQUESTS[:-1]:
            assert not (found := misfit(example.answer, await answer_of(user, example))), f"{example.topic}: {found}"
        await until(operator, SERVICE, lambda status: status["phase"] == "Running")
        for example in INFERENCE:
            assert not (found := misfit(example.answer, await answer_of(device, example))), f"{example.body}: {found}"
        assert not misfit(last.answer, await answer_of(user, last))


@pytest.mark.asyncio(loop_scope="module")
async def test_a_service_runs_once_its_deep_model_answers_and_says_what_keeps_it_from_it(shared: LocalCluster) -> None:
    code, node = shared.directory.parent / "code", shared.nodes["edge-1"].broker
    assert node is not None

    def infer() -> tuple[str, Any]:
        with JointInference("late", edge=lambda batch: [[0.5, 0.5]] * len(batch), node=node.url(scheme="mqtt"),
                            rule="always", deadline=HANGS) as service:  # fmt: skip
            answer = service.infer([1.0])
        return answer.by, answer.result

    async with AsyncClient(shared.server, timeout=HANGS) as operator:
        for name in ("small", "large"):
            await operator.models.create({"kind": "Model", "metadata": {"name": name}})
        await operator.services.create({"kind": "JointInferenceService", "metadata": {"name": "late"}, "spec": {
            "edgeWorker": {"model": {"name": "small"}, "scriptBootFile": "edge.py"},
            "cloudWorker": {"model": {"name": "large"}, "scriptBootFile": "late.py"}}})  # fmt: skip
        found = await until(operator, "late", lambda status: "weights.bin" in said(status, "WorkersHealthy"))
        assert found["phase"] == "Pending"
        assert "deep model on cloud: " in said(found, "WorkersHealthy")
        (code / "mended").touch()
        found = await until(operator, "late", lambda status: status["phase"] == "Running")
        assert said(found, "Ready") == "1 of 1 edges and 1 of 1 replicas of the deep model answer"
        assert (await asyncio.to_thread(infer)) == ("cloud", "virginica")
        (code / "broken").touch()
        assert (await asyncio.to_thread(infer))[0] == "edge"
        await until(operator, "late", lambda status: "RuntimeError: out of memory" in said(status, "WorkersHealthy"))
        await shared.wait_for_line("cloud", "RuntimeError: out of memory")
        (code / "broken").unlink()
        assert (await asyncio.to_thread(infer)) == ("cloud", "virginica")
        await until(operator, "late", lambda status: not said(status, "WorkersHealthy"))


def test_what_asks_the_node_is_imported_before_the_first_sample_whose_deadline_it_would_take() -> None:
    script = """
import sys
from heliograph import JointInference
JointInference("any", edge=lambda batch: [[0.5, 0.5]] * len(batch), node="mqtt://127.0.0.1:1")
before = set(sys.modules)
JointInference("any", edge=lambda batch: [[0.5, 0.5]], node="mqtt://127.0.0.1:1", deadline=0.05).infer([1.0])
print(sorted(name for name in set(sys.modules) - before if name.startswith("heliograph")))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


async def until(client: AsyncClient, name: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return a service's status once ``holds(status)``."""
    async with asyncio.timeout(HANGS), client.bus.subscribe(STATUS.at(resource="services", name=name)) as changes:
        while not holds(status := (await client.services.get(name))["status"]):
            await anext(changes)
        return dict(status)


def said(status: dict[str, Any], condition: str) -> str:
    """Return a condition's message; empty where there is no such condition."""
    return next((str(each["message"]) for each in status["conditions"] if each["type"] == condition), "")


@pytest.mark.mosquitto
async def test_a_user_of_mqtt_5_gets_the_reply_on_the_response_topic_with_its_correlation_data(
    shared: LocalCluster, mosquitto: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    await mosquitto()  # skips where it is not installed
    assert shared.mosquitto is not None
    if (program := shutil.which("mosquitto_rr")) is None:
        pytest.skip("mosquitto's clients are not installed")
    login = write_user_files(tmp_path / "users", shared.broker, [OPERATOR], shared.mosquitto)[OPERATOR]

    async def asked(*words: str, home: Path = login) -> str:
        argv = (program, "-q", "1", "-W", str(int(HANGS)), "-e", REPLY_TO, *words)
        found = await asyncio.create_subprocess_exec(
            *argv, env={"XDG_CONFIG_HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return (await found.communicate())[0].decode()

    topic = ("-t", "heliograph/request/edges/list")
    printed = await asked(*topic, "-m", "{}", "-D", "publish", "correlation-data", "of-mine", "-F", "%D %p")
    correlation, _, answer = printed.partition(" ")
    assert correlation == "of-mine"
    assert {each["metadata"]["name"] for each in json.loads(answer)["result"]} == {"cloud", "edge-1"}
    by_document = await asked(*topic, "-m", json.dumps({"reply_to": REPLY_TO}))
    assert json.loads(by_document)["ok"]
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    options = (login / "mosquitto_rr").read_text().splitlines()
    (stranger / "mosquitto_rr").write_text("\n".join(each for each in options if each[:2] not in ("-u", "-P")))
    assert '"ok"' not in await asked(*topic, "-m", "{}", "-W", "1", home=stranger)


@pytest.mark.mosquitto
async def test_the_doors_passwords_are_hashes_in_files_of_their_user(
    shared: LocalCluster, mosquitto: Callable[..., Awaitable[Any]]
) -> None:
    await mosquitto()
    door = shared.directory / "door"
    assert door.stat().st_mode & 0o77 == 0
    assert all(shared.broker.password(OPERATOR) not in file.read_text() for file in door.iterdir())
    assert re.fullmatch(r"a:\$7\$\d+\$[\w+/=]{16}\$[\w+/=]{88}\n", password_file({"a": "secret"}, World()))
    assert password_file({"a": "secret"}, World()) != password_file({"a": "secret"}, World())  # salted


def test_a_user_without_mosquitto_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(HeliographError, match="mosquitto is not installed; install it with"):
        LocalCluster(tmp_path, ["edge-1"], mosquitto=True)


def test_the_page_says_what_each_door_speaks_and_how_readme_asks() -> None:
    page, readme = (ROOT / "topics.md").read_text(), (ROOT / "README.md").read_text()
    assert re.search(r"\| the embedded broker.* \| MQTT 3\.1\.1 \|", page)
    assert re.search(r"\| mosquitto, .* \| MQTT 5 and 3\.1\.1 \|", page)
    assert "--door mosquitto" in readme


def test_every_code_of_a_refusal_has_its_cause_and_cure_in_the_one_list() -> None:
    known = ANSWERS.keys() | ELSEWHERE.keys()
    assert not ANSWERS.keys() & ELSEWHERE.keys()
    raised: set[str] = set()
    for file, code in _codes():
        beginnings = [each for each in known if each.startswith(code)] if code.endswith("-") else [code]
        assert beginnings and set(beginnings) <= known, f"{file}: {code} is missing in core/error_codes.py"
        raised |= set(beginnings)
    assert known - raised == set(), "codes that nothing raises"
    page = (ROOT / "topics.md").read_text()
    assert all(f"| `{code}` |" in page for code in known)


def _codes() -> Iterator[tuple[str, str]]:
    """Yield the codes of the product's refusals; of a code that is put together its beginning."""
    for folder in ("bus", "coordinator", "edge_agent", "workers", "lib/heliograph", "simulations"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            text = file.read_text()
            if "input_fuzz" in file.parts or not ("Refused(" in text or '"code"' in text or "TOO_MANY" in text):
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refused":
                    for code in _texts(node.args[0]) if node.args else ():
                        yield str(file), code
                elif isinstance(node, ast.Dict):
                    for key, value in zip(node.keys, node.values, strict=True):
                        if isinstance(key, ast.Constant) and key.value == "code":
                            yield from ((str(file), code) for code in _texts(value))
                elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("code", "TOO_MANY"):
                    yield from ((str(file), code) for code in _texts(node.value))


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
        yield str(node.values[0].value)
    elif isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))
