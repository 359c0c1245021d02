"""Addresses of replies: a request may only name one below ``reply/``, and the address names the caller."""

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


def reply_in_bytes(body: bytes, root: str) -> str | None:
    """Return the reply address that the bytes of an unread or unreadable document name; None if they name none.

    The address decides only where a refusal goes, so that its sender learns of it, and in whose queue it waits.
    """
    at = body.find(b"reply_to")  # much faster than the pattern, where a large document names none
    for _ in range(CANDIDATES if at > 0 else 0):
        found = _REPLY_TO.search(body, max(0, at - 1))
        if found is None:
            break
        address = (found[1] or found[2]).decode("latin-1").removeprefix(f"{root}/")
        if REPLY.match(address) is not None:
            return address
        at = found.start() + 2  # one may begin within the other
    return None


def caller_of(address: str | None, root: str) -> str:
    """Return the caller that a reply address names; empty where there is no address or it names none.

    It is the client of ``reply/<client>/<id>``, on NATS ``<root>.reply.<client>.…``, or the user of
    ``_INBOX.<user>.…``. A broker without accounts decides who may read an address, not who may name it: a caller can
    send its requests there in the name of another, whose answers it does not get.
    """
    if address is None:
        return ""
    if address.startswith("reply/"):
        client = address.split("/", 2)[1]
    elif address.startswith("_INBOX."):
        client = address.split(".", 2)[1]
    else:
        below = address.removeprefix(f"{root.replace('/', '.')}.reply.")
        client = below.partition(".")[0] if below != address else ""
    return client[:MAX_CALLER]


def caller_of_message(message: Message, reply_to: str | None, root: str) -> str:
    """Return the caller of a request: the login that the broker names, else whom the reply address names."""
    return caller_of(reply_to, root) if message.sender is None else message.sender


def require_own(address: str, message: Message, root: str) -> str:
    """Return a reply address. Raise Refused if it is another's than the login that the broker names."""
    if message.sender is None or caller_of(address, root) == message.sender:
        return address
    raise Refused("bad-reply-topic", topic=message.topic, field="reply_to",
                  expected=f"{root}/reply/{message.sender}/<id>", got=f"{root}/{address}",
                  hint="The name of your login stands there: a reply reaches its caller alone.")  # fmt: skip


TOO_MANY = "too-many-requests"
"""Code of the answer to a request that its caller's full queue has no room for; ``retry_after`` beside it says after
how many seconds to send it again."""
CANDIDATES = 16
"""Places in the bytes of a document that are looked at for its reply address."""
MAX_CALLER = 63
"""Characters of a caller's name, as many as a label has."""

_REPLY_TO = re.compile(
    rb'"reply_to"\s*:\s*"([-a-zA-Z0-9_./]{1,512})"'  # JSON
    rb"|\xa8reply_to(?:[\xa0-\xbf]|\xd9[\0-\xff])([-a-zA-Z0-9_./]{1,512})"  # MessagePack
)
