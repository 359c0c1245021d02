"""A reader with every fault that the fuzzer has to find, for its own tests."""

from __future__ import annotations

import os
from pathlib import Path

from heliograph.core.errors import Refused
from heliograph.simulations.input_fuzz.target import MIB, Target


def _read(body: bytes, scratch: Path) -> None:
    if b"refuse" in body:
        raise Refused("invalid", field="x", expected="another word", got=body)
    if b"raise" in body:
        raise LookupError("planted")
    if b"exit" in body:
        os._exit(3)
    if b"allocate" in body:
        bytearray(64 * MIB)
    while b"hang" in body:
        pass


SELF_TEST = Target("self-test", lambda rng: b"some words", _read, seconds=0.2, memory=32 * MIB)
