"""Arrays as PNG files, for a browser to show. W3C, "Portable Network Graphics", https://www.w3.org/TR/png-3/."""

from __future__ import annotations

import struct
import zlib

from heliograph.core.errors import Refused

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
LEAST = 128
"""Pixels of an image's longer side, at least: a smaller one is enlarged, so that people can see it and draw on it."""


def png_of(content: bytes) -> bytes:
    """Return the image in a sample's safetensors file. Raise Refused where its array ``x`` is no image.

    What counts as an image is said at ``heliograph.labelling.pixels.as_pixels``.
    """
    import numpy as np

    from heliograph.bus.contract.weights_file import TensorFile
    from heliograph.labelling.pixels import as_pixels

    with TensorFile(content, "sample") as file:
        pixels = as_pixels(file.numpy("x")) if "x" in file.tensors else None
        if pixels is None:
            raise Refused("unsupported", field="data", expected="an image: height × width, with or without 1, 3 or 4 "
                          "channels", got="an array of another shape")  # fmt: skip
        pixels = pixels.copy()
    times = max(1, LEAST // max(pixels.shape[:2]))
    pixels = pixels.repeat(times, 0).repeat(times, 1)
    height, width = pixels.shape[:2]
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # 0: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines.tobytes())) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
