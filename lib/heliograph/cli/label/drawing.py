"""Samples as lines of a terminal: images in colours or in characters, rows of numbers as bars, texts and tables."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract.payloads import LabelTask
from heliograph.bus.contract.payloads.labels import COLUMNS, TENSOR
from heliograph.cli.printing.output import printable
from heliograph.core.errors import Refused

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

WIDTH, HEIGHT = 64, 32
"""Largest size of a picture in characters; a character shows two pixels, one above the other."""
LEAST = 40
"""Pixels of a picture's longer side, at least: a smaller one is drawn larger."""
MAX_ROWS, MAX_TEXT = 40, 4000
_RAMP = " .:-=+*#%@"
_BARS = "▁▂▃▄▅▆▇█"


def drawn(task: LabelTask, coloured: bool, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Return the lines that show a task's sample. One that cannot be shown is described.

    Args:
        coloured: whether the terminal shows colours.
    """
    data = task.data
    if data.inline is None:
        return [f"the sample ({data.size} bytes, {printable(data.media_type)}) is not here"]
    if data.media_type == TENSOR:
        if importlib.util.find_spec("numpy") is None:
            return ["the sample is an array; to see it: pip install 'heliograph[train]'"]
        return _array_lines(data.inline, coloured, width, height)
    text = data.inline.decode(errors="replace")
    if data.media_type == COLUMNS:
        return _table_lines(text, width)
    if data.media_type.startswith("text/"):
        return [line for part in text[:MAX_TEXT].splitlines() for line in _wrapped(printable(part), width)][:MAX_ROWS]
    return [f"a sample of {data.size} bytes, {printable(data.media_type)}"]


def _array_lines(content: bytes, coloured: bool, width: int, height: int) -> list[str]:
    from heliograph.bus.contract.weights_file import TensorFile
    from heliograph.labelling.pixels import as_pixels

    try:
        with TensorFile(content, "sample") as file:
            x = file.numpy("x").copy() if "x" in file.tensors else None
    except Refused as error:
        return [f"the sample cannot be read: {printable(error)}"]
    if x is None:
        return ["the sample has no array x"]
    if (pixels := as_pixels(x)) is not None:
        fitted = _fitted(pixels, width, 2 * height)
        return _colour_lines(fitted) if coloured else _plain_lines(fitted)
    values = x.reshape(-1)
    shown = f"{' × '.join(map(str, x.shape)) or 'one value'}, {x.dtype}"
    if x.ndim <= 1 and 0 < len(values) <= 4 * width:
        return [shown, *_wrapped(_bar_line([float(each) for each in values]), width), *_numbers(values, width)]
    return [shown, *_numbers(values, width)]


def _fitted(pixels: Array, width: int, height: int) -> Array:
    """Return an image that fits, and is not too small to see: its nearest pixels."""
    import numpy as np

    rows, columns = pixels.shape[:2]
    scale = min(width / columns, height / rows)
    scale = min(scale, max(1, LEAST // max(rows, columns))) if scale >= 1 else scale
    down = (np.arange(max(2, int(rows * scale))) / scale).astype(int).clip(0, rows - 1)
    across = (np.arange(max(2, int(columns * scale))) / scale).astype(int).clip(0, columns - 1)
    found: Array = pixels[down][:, across]
    return found


def _colour_lines(pixels: Array) -> list[str]:
    lines = []
    for row in range(0, len(pixels), 2):
        upper = pixels[row].tolist()
        lower = pixels[row + 1].tolist() if row + 1 < len(pixels) else [[0, 0, 0]] * len(upper)
        cells = [f"\x1b[38;2;{r};{g};{b};48;2;{r2};{g2};{b2}m▀"
                 for (r, g, b), (r2, g2, b2) in zip(upper, lower, strict=True)]  # fmt: skip
        lines.append("".join(cells) + "\x1b[0m")
    return lines


def _plain_lines(pixels: Array) -> list[str]:
    brightness = pixels[::2].astype(float).mean(2) / 255
    return ["".join(_RAMP[min(9, int(10 * each))] for each in row) for row in brightness.tolist()]


def _bar_line(values: Sequence[float]) -> str:
    finite = [each for each in values if math.isfinite(each)]
    if not finite:
        return "?" * len(values)
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    return "".join(_BARS[min(7, int(8 * (each - low) / span))] if math.isfinite(each) else "?" for each in values)


def _numbers(values: Any, width: int) -> list[str]:
    text = " ".join(f"{float(each):.4g}" for each in values[:64])
    return _wrapped(text + (" …" if len(values) > 64 else ""), width)


def _table_lines(text: str, width: int) -> list[str]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        return ["the sample cannot be read: expected named columns"]
    names = [printable(name) for name in [*row][:MAX_ROWS]]
    longest = min(max(map(len, names), default=0), width // 2)
    return [f"{name[:longest].ljust(longest)}  {printable(row[key])[: width - longest - 2]}"
            for name, key in zip(names, row, strict=False)]  # fmt: skip


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or [""]
