"""The results of a round's aggregation, written block by block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract import bfloat16
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import beside
from heliograph.core.errors import Refused
from heliograph.workers.aggregation.blocks import Span, Writer
from heliograph.workers.aggregation.integers import mean_of_integers
from heliograph.workers.aggregation.round_inputs import RoundInputs, wide_dtype
from heliograph.workers.algorithms import Algorithm, Decision

if TYPE_CHECKING:
    import numpy as np

    Block = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Result:
    """The results of a round. ``model`` is None where the algorithm excluded every update; see ``excluded``."""

    model: WeightsRef | None = None
    state: WeightsRef | None = None
    down: WeightsRef | None = None
    personal: Mapping[str, WeightsRef] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)


class ResultFiles:
    """The files of a round's result while they are written; unfinished files are deleted."""

    def __init__(
        self, opened: ExitStack, inputs: RoundInputs, algorithm: Algorithm, decision: Decision, directory: Path,
        metadata: Mapping[str, str],
    ) -> None:  # fmt: skip
        order = inputs.order

        def writer(name: str, layout: Mapping[str, tuple[str, tuple[int, ...]]], **more: str) -> Writer:
            return opened.enter_context(closing(Writer(directory, name, layout, {**metadata, **more})))

        def writer_of_kinds(part: str, kinds: Sequence[str], whole: Mapping[str, Block]) -> Writer | None:
            layout = {beside(kind, each.name): (wide_dtype(each), each.shape)
                      for kind in kinds for each in order if each.is_float}  # fmt: skip
            arrays = {name: _widened(array) for name, array in whole.items()}
            layout |= {name: (_DTYPES[array.dtype.kind], array.shape) for name, array in arrays.items()}
            if not layout:
                return None
            made = writer(part, dict(sorted(layout.items(), key=lambda item: _WIDEST.index(item[1][0]))), part=part)
            for name, array in arrays.items():
                made.write(name, 0, array.reshape(-1))
            return made

        model = {each.name: (each.dtype, each.shape) for each in order}
        self._model = writer("model", model)
        self._state = writer_of_kinds("state", algorithm.state, decision.state)
        self._down = writer_of_kinds("down", algorithm.down, decision.down)
        edges = inputs.readers if algorithm.personal else ()
        self._personal = {edge: writer(f"personal-{edge}", model, part="personal", edge=edge) for edge in edges}

    def write(self, span: Span, inputs: RoundInputs, algorithm: Algorithm, plan: Any) -> None:
        """Combine one block and write the result. Raise Refused, ``not-finite``, where a value of a model is not."""
        name, start = span.tensor.name, span.start
        kept = inputs.kept(span)
        if kept is None and not span.tensor.is_float:
            kept = mean_of_integers(inputs.blocks(span), inputs.weights)
        if kept is None and inputs.averages(name):
            kept = inputs.mean(span)
        if kept is not None:
            for each in (self._model, *self._personal.values()):
                each.write(name, start, kept)
            if span.tensor.is_float:
                self._keep_beside(span, inputs, algorithm)
            return
        combined = algorithm.combine(inputs.piece(span, plan))
        _check_finite(combined.model, span, "weights")
        fixed = inputs.not_finite(span)
        self._model.write(name, start, _with_fixed(combined.model, fixed))
        for kind in algorithm.state:
            assert self._state is not None
            self._state.write(beside(kind, name), start, combined.state[kind])
        for kind in algorithm.down:
            assert self._down is not None
            _check_finite(combined.down[kind], span, f"down.{kind}", wide_dtype(span.tensor))
            self._down.write(beside(kind, name), start, combined.down[kind])
        for (edge, each), block in zip(self._personal.items(), combined.personal, strict=True):
            _check_finite(block, span, f"personal.{edge}")
            each.write(name, start, _with_fixed(block, fixed))

    def _keep_beside(self, span: Span, inputs: RoundInputs, algorithm: Algorithm) -> None:
        """Keep the state of a tensor that takes no part in the round, and send zeros down beside it."""
        import numpy as np

        for kind in algorithm.state:
            assert self._state is not None
            self._state.write(beside(kind, span.tensor.name), span.start, inputs.state_of(kind, span))
        for kind in algorithm.down:
            assert self._down is not None
            self._down.write(beside(kind, span.tensor.name), span.start, np.zeros(span.count))

    def finish(self, decision: Decision) -> Result:
        return Result(
            model=self._model.finish(inline=True),
            state=self._state.finish(inline=False) if self._state is not None else None,
            down=self._down.finish(inline=False) if self._down is not None else None,
            personal={edge: each.finish(inline=False) for edge, each in self._personal.items()},
            excluded=decision.excluded,
        )


_DTYPES = {"f": "F64", "i": "I64", "b": "BOOL"}
"""The dtype of stored whole arrays, by NumPy's kind: the widest."""
_WIDEST = ("F64", "I64", "F32", "BOOL")
"""Order of tensors in a file: the format has no gaps, and so every tensor is aligned for NumPy."""


_END = {"F32": 3.4028235677973366e38, "F16": 65520.0, "BF16": bfloat16.END}
"""The smallest number that each dtype rounds to infinity."""


def _check_finite(block: Block, span: Span, part: str, dtype: str = "") -> None:
    """Raise Refused where a value of a result is not finite in the dtype in which it is stored."""
    import numpy as np

    end = _END.get(dtype or span.tensor.dtype, math.inf)
    flat = np.asarray(block).reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        if float(np.dot(flat, flat)) < end * end:  # one pass at memory speed; look closer only where it says nothing
            return
        finite = np.abs(flat) < end
    if not finite.all():
        at = int(np.flatnonzero(~finite)[0])
        raise Refused("not-finite", field=f"{part}.{span.tensor.name}", expected="finite values in the algorithm's "
                      "result", got=f"{flat[at]} at element {span.start + at}")  # fmt: skip


def _widened(array: Block) -> Block:
    import numpy as np

    array = np.asarray(array)
    wide = {"f": np.float64, "i": np.int64, "u": np.int64, "b": np.bool_}[array.dtype.kind]
    return array.astype(wide)


def _with_fixed(block: Block, fixed: tuple[Block, Block] | None) -> Block:
    """Return the block with the values of the elements that take no part in the round."""
    import numpy as np

    return block if fixed is None else np.where(fixed[0], fixed[1], block)
