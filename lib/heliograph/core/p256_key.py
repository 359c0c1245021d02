"""Read a public key on P-256 without a cryptographic library: an agent knows whom it trusts before it checks anything.

The form is SubjectPublicKeyInfo of the named curve with an uncompressed point (RFC 5480), as OpenSSL writes it.
"""

from __future__ import annotations

import base64
import binascii

BEGIN, END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
"""All that stands before the coordinates: the algorithm, the curve, and that the point is uncompressed."""
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_LINE = 64


def normal_pem(pem: str) -> str | None:
    """Return the key in the one form that its id is of; None for any other form, and for what is no key.

    The point is proven to lie on the curve (SEC 1, 3.2.2.1), whose group has no subgroup.
    """
    head, begin, rest = pem.partition(BEGIN)
    body, end, tail = rest.partition(END)
    if not begin or not end or head.strip() or tail.strip():
        return None
    try:
        key = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(key) != len(_HEAD) + 64 or not key.startswith(_HEAD):
        return None
    x, y = (int.from_bytes(key[at : at + 32], "big") for at in (len(_HEAD), len(_HEAD) + 32))
    if x >= _P or y >= _P or (y * y - (x * x * x - 3 * x + _B)) % _P:
        return None
    text = base64.b64encode(key).decode()
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return "\n".join([BEGIN, *lines, END, ""])
