"""The layout of a trace in an MCAP file (https://mcap.dev/spec): channels, metadata and sequence numbers.

A channel has one (address, encoding, lane). Its metadata name the lane. The low 32 bits of a lane's number are each
message's ``sequence``; the high 32 bits are in the channel's metadata. A file has at most 65,535 channels, too few for
one channel for each request's address. Messages of such addresses are *wrapped*: a document that has the address and
the headers, and the message's own bytes unchanged.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgpack

from heliograph.bus.contract import registry
from heliograph.bus.contract.lanes import LANE, MESSAGE_ID, NUMBER, REPLAYED
from heliograph.bus.traces.recorded import Recorded
from heliograph.core.errors import HeliographError

VERSION = 2
"""Version of this layout. A reader refuses newer versions. Version 1 has the names of topics before 0.2."""
PROFILE = "heliograph"
START_METADATA = "heliograph.trace"
"""Name of the metadata record at a trace's start: version, root, and the writer's own metadata."""
END_METADATA = "heliograph.trace.end"
"""Name of the metadata record at a trace's end: the number of dropped messages, for example."""
SAFETENSORS = "application/x-safetensors"

MIB = 1024 * 1024
MAX_BODY = 16 * MIB
"""Largest size of a message in bytes; topics allow 8 MiB at most."""
MAX_CHUNK = 128 * MIB
"""Largest size of an uncompressed chunk that a reader allocates, in bytes."""
UNPACKED_FREE = 32 * MIB
UNPACKED_TIMES = 256
"""A file's chunks may unpack to ``UNPACKED_FREE`` bytes, and to ``UNPACKED_TIMES`` its own size more. Recordings unpack
to 5 to 50 times their size; a file of a few kB that unpacks to gigabytes keeps its reader busy for minutes."""
MAX_RECORD = 16 * MIB
"""Largest size of a schema, channel or metadata record in bytes."""
MAX_SUMMARY = 256 * MIB
MAX_ATTACHMENT = 1024 * MIB
MAX_TIME = (1 << 64) - 1
CHANNELS = 60_000
"""Number of channels from which on messages of new addresses are wrapped."""

LANE_KEY, HIGH, MESSAGE_ID_KEY, REPLAYED_KEY = "lane", "number_high", "message_id", "replayed"
RETAINED, WRAPPED = "retained", "wrapped"
"""Keys of a channel's metadata."""
_JSON_START, _JSON_MIDDLE, _JSON_END = b'{"carried":', b',"message":', b"}"
_HEAD = struct.Struct("<I")
_NUMBER = re.compile("0|[1-9][0-9]{0,19}")
_LONGEST_HEAD = 256 * 1024


def require_library() -> None:
    """Raise HeliographError that says how to install the MCAP library if it is missing."""
    try:
        import mcap  # noqa: F401
    except ModuleNotFoundError:
        raise HeliographError("traces need the MCAP library: pip install 'heliograph[trace]'") from None


def encoding_of(body: bytes) -> str:
    """Return the MCAP message encoding of a body by its first byte: ``json``, ``msgpack``, or empty for any other."""
    first = body[0] if body else 0
    if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
        return "msgpack"
    return "json" if body[:64].lstrip()[:1] in (b"{", b"[") else ""


@lru_cache(maxsize=4096)
def pattern_of(address: str) -> tuple[str, bool]:
    """Return the pattern of an address's topic (``#`` if none is declared), and whether its addresses are unbounded,
    as with one for each request."""
    topic, _ = registry.lookup(address)
    return (topic.pattern, "id" in topic.params) if topic is not None else ("#", False)


class ChannelKey(NamedTuple):
    """The common properties of a channel's messages; ``address`` is a pattern if they are wrapped."""

    address: str
    encoding: str
    lane: str | None = None
    high: int | None = None
    message_id: bool = False
    replayed: str | None = None
    retained: bool = False
    wrapped: bool = False

    def metadata(self) -> dict[str, str]:
        found = {
            LANE_KEY: self.lane,
            HIGH: None if self.high is None else str(self.high),
            MESSAGE_ID_KEY: "true" if self.message_id else None,
            REPLAYED_KEY: self.replayed,
            RETAINED: "true" if self.retained else None,
            WRAPPED: "true" if self.wrapped else None,
        }
        return {name: value for name, value in found.items() if value is not None}

    @staticmethod
    def of(address: str, encoding: str, metadata: Mapping[str, str]) -> ChannelKey:
        """Return the key of a channel in a file. Raise ValueError if this layout does not write such metadata."""
        high = int(metadata[HIGH]) if HIGH in metadata else None
        if high is not None and not 0 <= high < 1 << 32:
            raise ValueError("a number of more than 64 bits")
        return ChannelKey(
            address, encoding, metadata.get(LANE_KEY), high, MESSAGE_ID_KEY in metadata, metadata.get(REPLAYED_KEY),
            RETAINED in metadata, WRAPPED in metadata,
        )  # fmt: skip

    def headers(self, sequence: int) -> dict[str, str]:
        """Return the headers of the message with a ``sequence``."""
        found = {}
        if self.lane is not None:
            found[LANE] = self.lane
        if self.high is not None:
            found[NUMBER] = str(self.high << 32 | sequence)
        if self.message_id:
            found[MESSAGE_ID] = f"{self.lane}.{found.get(NUMBER, '')}"
        if self.replayed is not None:
            found[REPLAYED] = self.replayed
        return found


def key_of(recorded: Recorded) -> tuple[ChannelKey, int] | None:
    """Return a message's channel and its ``sequence`` there; None if no channel can express its headers."""
    encoding = encoding_of(recorded.body)
    if not recorded.headers:
        return ChannelKey(recorded.topic, encoding, retained=recorded.retained), 0
    headers = recorded.headers
    lane, number, replayed, message_id = (
        headers.get(LANE), headers.get(NUMBER), headers.get(REPLAYED), headers.get(MESSAGE_ID),
    )  # fmt: skip
    known = (lane is not None) + (number is not None) + (replayed is not None) + (message_id is not None)
    if known < len(headers) or (replayed is not None and replayed != "1"):
        return None
    high: int | None = None
    sequence = 0
    if number is not None:
        if not _NUMBER.fullmatch(number) or (whole := int(number)) >> 64:
            return None
        high, sequence = whole >> 32, whole & 0xFFFFFFFF
    if message_id is not None and (lane is None or number is None or message_id != f"{lane}.{number}"):
        return None
    key = ChannelKey(recorded.topic, encoding, lane, high, message_id is not None, replayed, recorded.retained)
    return key, sequence


def wrap(recorded: Recorded, encoding: str) -> bytes:
    """Wrap a message with its address and headers, in the same encoding; the body's bytes stay unchanged."""
    carried: dict[str, Any] = {"address": recorded.topic}
    if recorded.headers:
        carried["headers"] = dict(recorded.headers)
    if recorded.retained:
        carried["retained"] = True
    if encoding == "msgpack":
        packer = msgpack.Packer()
        head = packer.pack_map_header(2) + packer.pack("carried") + packer.pack(carried) + packer.pack("message")
        return bytes(head) + recorded.body
    text = json.dumps(carried, separators=(",", ":")).encode()
    if encoding == "json":
        return b"".join((_JSON_START, text, _JSON_MIDDLE, recorded.body, _JSON_END))
    return b"".join((_HEAD.pack(len(text)), text, recorded.body))


def unwrap(data: bytes, encoding: str) -> tuple[Mapping[str, Any], bytes]:
    """Return a wrapped message's address and headers, and its body. Raise ValueError for other bytes."""
    if encoding == "msgpack":
        unpacker = msgpack.Unpacker(max_buffer_size=len(data) + 1)
        unpacker.feed(data)
        try:
            entries, first, carried, second = (
                unpacker.read_map_header(), unpacker.unpack(), unpacker.unpack(), unpacker.unpack(),
            )  # fmt: skip
        except (msgpack.UnpackException, msgpack.BufferFull):
            raise ValueError("no wrapped message") from None
        if (entries, first, second) != (2, "carried", "message"):
            raise ValueError("no wrapped message")
        return _checked(carried), data[unpacker.tell() :]
    if encoding == "json":
        text = data[:_LONGEST_HEAD].decode("latin-1")
        carried, end = json.JSONDecoder().raw_decode(text, len(_JSON_START))
        after = end + len(_JSON_MIDDLE)
        if not data.startswith(_JSON_START) or data[end:after] != _JSON_MIDDLE or not data.endswith(_JSON_END):
            raise ValueError("no wrapped message")
        return _checked(carried), data[after:-1]
    if len(data) < _HEAD.size or (length := _HEAD.unpack_from(data)[0]) > len(data) - _HEAD.size:
        raise ValueError("no wrapped message")
    after = _HEAD.size + length
    return _checked(json.loads(data[_HEAD.size : after])), data[after:]


def _checked(carried: Any) -> Mapping[str, Any]:
    if not isinstance(carried, dict) or not isinstance(carried.get("address"), str):
        raise ValueError("a wrapped message without an address")
    check_headers(carried.get("headers", {}))
    return carried


def check_headers(headers: Any) -> dict[str, str]:
    """Return ``headers``. Raise ValueError if they are no mapping of strings."""
    if not isinstance(headers, dict) or not all(type(each) is str for pair in headers.items() for each in pair):
        raise ValueError("the headers are no mapping of strings")
    return headers
