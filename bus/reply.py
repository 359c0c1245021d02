"""Check the addresses of replies: a request may only name one below ``reply/``."""

from __future__ import annotations

from heliograph.bus.contract.topics import REPLY
from heliograph.bus.transport import Message
from heliograph.core.errors import Refused


def reply_address(given: object, topic: str, root: str) -> str:
    """Return the address below the root that a request names. Raises Refused unless it is a reply topic."""
    address = given.removeprefix(f"{root}/") if isinstance(given, str) else ""
    if REPLY.match(address) is None:
        raise Refused("bad-reply-topic", topic=topic, field="reply_to", expected=f"{root}/reply/<client>/<id>",
                      got="nothing" if given is None else given,
                      hint=f"A reply can only be sent below {root}/reply/.")  # fmt: skip
    return address


def reply_of(message: Message, tree: object, root: str) -> str:
    """Return the address named by a message's response topic (MQTT 5), or else by ``reply_to`` in its document.

    Raises Refused if neither names one, or it is no reply topic.
    """
    given: object = message.reply_to
    if given is None and isinstance(tree, dict):
        given = tree.get("reply_to")
    return reply_address(given, message.topic, root)
