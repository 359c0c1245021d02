"""Data sets: npz and csv as an agent indexes them, and labelled samples as ``tune`` reads them."""

from __future__ import annotations

import io
import random  # noqa: TID251 only its type: the generator is seeded
import struct
import warnings
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

from heliograph.edge_agent.datasets import index
from heliograph.inference.tuning.labelled import read_labelled
from heliograph.simulations.input_fuzz.hostile_values import TEXTS
from heliograph.simulations.input_fuzz.mutate import mutate_bytes
from heliograph.simulations.input_fuzz.target import MIB, Target

_HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (4,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (281474976710655, 2), }", "{'descr': '<f4', 'shape': (4,)}",
    "{'descr': [('a', '<f4'), ('b', [('c', '|O')])], 'fortran_order': False, 'shape': (4,), }", "(" * 3000, "[" * 200,
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "{'descr': '<f4', 'fortran_order': 1, 'shape': 4}",
    "{'descr': '<U99999999', 'fortran_order': False, 'shape': (0,), }", "__import__('os').system('true')", "{1: 2, 3}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2), }", "9" * 5000, "\0\0",
    "{'descr': '<f4'" + " " * 9000,
)  # fmt: skip


_NAMES = tuple(text[:5000] for text in TEXTS if isinstance(text, str) and text.isprintable())


def _npz(rng: random.Random) -> bytes:
    x, y = (np.ones((4, rng.choice((1, 2))), rng.choice(("float32", "int64"))) for _ in "xy")
    scores, labels = np.full((4, 3), 1 / 3, np.float32), np.zeros(4, np.int64)
    file = io.BytesIO()
    save = np.savez if rng.random() < 0.5 else np.savez_compressed
    save(file, x=x, y=y, edge_scores=scores, labels=labels, cloud_labels=labels)
    return file.getvalue()


def _array(rng: random.Random) -> bytes:
    """Return a ``.npy`` member with an odd header."""
    header = rng.choice(_HEADERS).encode() + b"\n"
    version = rng.choice((1, 2, 3, 4, 0))
    width = 2 if version == 1 else 4
    length = rng.choice((len(header), len(header), len(header), 0, 1 << 15, (1 << (8 * width)) - 1))
    data = bytes(rng.choice((0, 32, 64)))
    return b"\x93NUMPY" + bytes((version, 0)) + length.to_bytes(width, "little") + header + data


def _draw_npz(rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return mutate_bytes(rng, _npz(rng), _npz(rng))
    file = io.BytesIO()
    warnings.simplefilter("ignore")  # of names that come twice
    with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        names = rng.sample(("x", "y", "edge_scores", *_NAMES), rng.choice((1, 1, 2, 5)))
        for name in [*names, *(names if rng.random() < 0.1 else ())]:
            archive.writestr(f"{name}.npy", _array(rng))
    data = file.getvalue()
    if rng.random() < 0.02:
        data = _bomb()
    return mutate_bytes(rng, data, data) if rng.random() < 0.3 else data


@cache
def _bomb() -> bytes:
    """Return a member of 128 MiB, which deflate packs into a thousandth."""
    file = io.BytesIO()
    count = 32 * MIB
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count},), }}\n".encode()
            member.write(b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head)
            for _ in range(4 * count // (16 * MIB)):
                member.write(bytes(16 * MIB))
    return file.getvalue()


def _csv(rng: random.Random) -> bytes:
    return b"a,b,c\n" + b"1,2.5,text\n" * rng.choice((1, 3)) + b'4,,"quoted, text"\n'


def _draw_csv(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.5:
        return mutate_bytes(rng, _csv(rng), _csv(rng))
    if kind < 0.51:
        return b'a,b\n1,"' + b"x" * (20 * MIB)
    if kind < 0.52:
        return b"a" + b",b" * 100_000 + b"\n"
    cells = [text.encode(errors="replace") for text in TEXTS if isinstance(text, str)]
    cells += [b"\xff\xfe", b'"', b"\n", b"\r"]
    rows = [b",".join(rng.choice(cells) for _ in range(rng.choice((3, 3, 2)))) for _ in range(4)]
    start = rng.choice((b"", b"\xef\xbb\xbf", b"\xff\xfe", b"PK\x03\x04"))
    return start + b"\n".join(rows)


def _read_npz(body: bytes, scratch: Path) -> None:
    file = scratch / "data.npz"
    file.write_bytes(body)
    try:
        _indexed(file)
        if len(body) < MIB // 4:
            read_labelled(file)
    finally:
        file.unlink()


def _read_csv(body: bytes, scratch: Path) -> None:
    file = scratch / "data.csv"
    file.write_bytes(body)
    try:
        _indexed(file)
    finally:
        file.unlink()


def _indexed(file: Path) -> None:
    found = index("data", file)
    assert bool(found.error) != bool(found.samples), "neither an index nor an error"
    found.model_dump_json().encode()



TARGETS = (
    Target("npz", _npz, _read_npz, _draw_npz),
    Target("csv", _csv, _read_csv, _draw_csv),
)
