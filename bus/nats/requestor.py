"""Who has sent a request from another account, as the server says it in a header (``share`` of a service's import).

The server writes the header anew whatever the client has sent; a message within one account keeps the client's. The
header has the sender's token too, of an MQTT client its password: nothing hands it on.
"""

from __future__ import annotations

import json

SENDER = "Nats-Request-Info"


def sender_of(header: str) -> str:
    """Return the name of the sender's login, which its token claims; empty where the header says none."""
    try:
        name = json.loads(header).get("name_tag")
    except (ValueError, RecursionError, AttributeError):
        return ""
    return name if isinstance(name, str) else ""
