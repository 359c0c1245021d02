"""Where an answer may be sent: below ``reply/`` and nowhere else, whatever a request names."""

from __future__ import annotations

from heliograph.bus.contract.topics import REPLY
from heliograph.bus.transport import Message
from heliograph.core.errors import Refused


def reply_address(given: object, topic: str, root: str) -> str:
    """The address below the root that a request's ``reply_to`` or response topic names. Raises Refused elsewhere."""
    address = given.removeprefix(f"{root}/") if isinstance(given, str) else ""
    if REPLY.match(address) is None:
        raise Refused("bad-reply-topic", topic=topic, field="reply_to", expected=f"{root}/reply/<client>/<id>",
                      got="nothing" if given is None else given,
                      hint=f"A reply can only be sent below {root}/reply/.")  # fmt: skip
    return address


def reply_of(message: Message, tree: object, root: str) -> str:
    """The address that a message's response topic (MQTT 5) names, or else ``reply_to`` in what it holds. Raises Refused
    where neither does, or it lies elsewhere."""
    given: object = message.reply_to
    if given is None and isinstance(tree, dict):
        given = tree.get("reply_to")
    return reply_address(given, message.topic, root)
