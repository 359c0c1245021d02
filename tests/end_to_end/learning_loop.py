"""Steps of the loop of labels, training and deployment over real processes: a camera asks, a labeller knows."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any

import aiomqtt

from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.label_client import Labeller

REPLY = "heliograph/reply/camera"
ANSWERED = 2.0
"""Seconds after which a request is sent again: before the service is there nobody may hear it."""


async def subscribed(camera: aiomqtt.Client) -> None:
    """Let a camera hear its answers."""
    await camera.subscribe(f"{REPLY}/#")


async def ask_camera(camera: aiomqtt.Client, image: Any) -> dict[str, Any]:
    """Return the edge's answer to an image; ask until the service is there."""
    for number in count():
        reply = f"{REPLY}/{number}"
        body = {"input": image.tolist(), "reply_to": reply}
        await camera.publish("heliograph/inference/digits/request", json.dumps(body))
        try:
            async with asyncio.timeout(ANSWERED):
                answer = await _answer(camera, reply)
        except TimeoutError:
            continue
        if "error" not in answer:
            return answer
        await asyncio.sleep(0.2)
    raise AssertionError("count() does not end")


async def _answer(camera: aiomqtt.Client, reply: str) -> dict[str, Any]:
    async for message in camera.messages:
        if str(message.topic) == reply:
            found: dict[str, Any] = json.loads(message.payload)  # type: ignore[arg-type]
            return found
    raise AssertionError("the messages do not end")


async def label(client: AsyncClient, known: dict[bytes, str]) -> None:
    """Label every image once."""
    left = set(known)
    async with Labeller(client, "digits", "oracle", source="oracle") as labeller:
        while left:
            for task in await labeller.claim(32):
                assert task.task.data is not None and task.task.data.inline is not None
                with TensorFile(task.task.data.inline) as file:
                    image = file.numpy("x").astype("float32").tobytes()
                await labeller.submit(task, known[image])
                left.discard(image)


async def deployed(client: AsyncClient, number: int) -> None:
    """Wait for the end of a round, whose candidate has to be deployed."""
    while True:
        rounds = (await client.resources("incremental-jobs").get("digits"))["status"].get("rounds", [])
        if rounds and rounds[-1]["round"] == number:
            assert rounds[-1]["models"]["digits"]["decision"] == "deployed", rounds[-1]
            return
        await asyncio.sleep(0.2)
