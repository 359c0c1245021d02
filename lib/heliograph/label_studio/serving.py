"""A running bridge, with the door for Label Studio's webhooks where there is one."""

from __future__ import annotations

import asyncio

from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.label_studio.api import LabelStudio
from heliograph.label_studio.bridge import Bridge
from heliograph.label_studio.webhook import SECRET_HEADER, WebhookDoor


async def serve(bridge: Bridge, studio: LabelStudio, world: World, webhook: str, host: str, port: int) -> None:
    """Run a bridge until cancelled.

    Args:
        webhook: URL at which Label Studio reaches ``host`` and ``port``; empty for a bridge that polls alone.
    """
    if not webhook:
        await bridge.run()
        return
    secret = world.new_secret().hex()
    door = WebhookDoor(host, port, secret, bridge.hint)
    await door.open()
    registering = asyncio.create_task(_register(bridge, studio, world, webhook, secret))
    try:
        await bridge.run()
    finally:
        await cancel_and_wait(registering)
        await door.close()


async def _register(bridge: Bridge, studio: LabelStudio, world: World, webhook: str, secret: str) -> None:
    """Register the webhook once the project is known: the first task makes it."""
    while not bridge.project:
        await world.sleep(0.5)
    await world.in_thread(studio.register_webhook, bridge.project, webhook, {SECRET_HEADER: secret})
