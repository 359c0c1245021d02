"""Check the addresses of replies: a request may only name one below ``reply/``."""

from __future__ import annotations

import re

from heliograph.bus.contract.topics import REPLY
from heliograph.bus.transport import Message
from heliograph.core.errors import Refused


def reply_address(given: object, topic: str, root: str) -> str:
    """Return the address below the root that a request names. Raises Refused unless it is a reply topic."""
    address = given.removeprefix(f"{root}/") if isinstance(given, str) else ""
    if REPLY.match(address) is None:
        raise Refused("bad-reply-topic", topic=topic, field="reply_to", expected=f"{root}/reply/<client>/<id>",
                      got="nothing" if given is None else given,
                      hint=f"A reply can only be sent below {root}/reply/. A user reads {root}/reply/<user>/ "
                           "alone: <client> is the name of your login.")  # fmt: skip
    return address


def reply_of(message: Message, tree: object, root: str) -> str:
    """Return the address named by a message's response topic (MQTT 5), or else by ``reply_to`` in its document.

    Raises Refused if neither names one, or it is no reply topic.
    """
    given: object = message.reply_to
    if given is None and isinstance(tree, dict):
        given = tree.get("reply_to")
    return reply_address(given, message.topic, root)


def reply_in_unreadable(body: bytes, root: str) -> str | None:
    """Return the reply address that the bytes of an unreadable document name; None if they name none.

    The address decides only where the refusal goes, so that its sender learns of it.
    """
    for found in _REPLY_TO.finditer(body):
        address = (found[1] or found[2]).decode("latin-1").removeprefix(f"{root}/")
        if REPLY.match(address) is not None:
            return address
    return None


_REPLY_TO = re.compile(
    rb'"reply_to"\s*:\s*"([-a-zA-Z0-9_./]{1,512})"'  # JSON
    rb"|\xa8reply_to(?:[\xa0-\xbf]|\xd9[\0-\xff])([-a-zA-Z0-9_./]{1,512})"  # MessagePack
)
