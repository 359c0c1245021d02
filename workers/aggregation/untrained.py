"""Updates that equal their base: a script that trains nothing, or trains another model than the one it handed over."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from heliograph.workers.aggregation.blocks import Layout, Reader, spans


def equals_base(source: Path | bytes, tensors: Layout, base: Path | bytes, layout: Layout) -> bool:
    """Return whether an update's floating-point tensors have the values of the base, bit by bit.

    A counter that was counted up is no training: integer tensors are compared only where the model has no others. The
    first block tells a trained model, so that looking costs next to nothing. A tensor that the update lacks is
    unchanged.

    Args:
        tensors, layout: the tensors in the header of the update and of the base.
    """
    trained = [tensor for tensor in layout.values() if tensor.is_float] or [*layout.values()]
    with ExitStack() as opened:
        update, before = (
            opened.enter_context(closing(Reader(*each))) for each in ((source, tensors), (base, layout))
        )  # fmt: skip
        return bool(trained) and all(
            update.read(tensors[tensor.name], span.start, span.count).tobytes()
            == before.read(tensor, span.start, span.count).tobytes()
            for tensor in trained
            if tensor.name in tensors
            for span in spans([tensor])
        )
