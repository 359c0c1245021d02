"""Where an answer may be sent: below ``reply/`` and nowhere else, whatever a request names."""

from __future__ import annotations

from heliograph.bus.errors import Refused
from heliograph.bus.topics import REPLY


def reply_address(given: object, topic: str, root: str) -> str:
    """The address below the root that a request's ``reply_to`` or response topic names. Raises Refused elsewhere."""
    address = given.removeprefix(f"{root}/") if isinstance(given, str) else ""
    if REPLY.match(address) is None:
        raise Refused("bad-reply-topic", topic=topic, field="reply_to", expected=f"{root}/reply/<client>/<id>",
                      got="nothing" if given is None else given,
                      hint=f"A reply can only be sent below {root}/reply/.")  # fmt: skip
    return address
