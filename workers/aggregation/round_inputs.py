"""The inputs of a round's aggregation, read block by block: the updates, the base model and the algorithm's state.

A tensor that an update lacks is the base's. Some elements take no part in a round and keep their bits: those of tensors
that no update has, of constants, and those that are not finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract.weights_file import CONSTANT, TensorFile, beside
from heliograph.bus.contract.weights_header import Tensor
from heliograph.core.errors import Refused
from heliograph.workers.aggregation.blocks import Layout, Reader, Span, spans
from heliograph.workers.aggregation.shares import capped_samples
from heliograph.workers.algorithms import Algorithm, Decision, Piece, weighted_mean

if TYPE_CHECKING:
    import numpy as np

    Block = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Input:
    """One update: the source of its weights, and its edge's claims; ``tensors`` as ``Reader`` takes them,
    ``not_finite`` and ``buffers`` as ``CheckedWeights`` has them."""

    source: Path | bytes
    num_samples: float
    tensors: Layout | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    not_finite: frozenset[str] = frozenset()
    buffers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RoundStart:
    """The base and the state of a round.

    Attributes:
        base: the model that the updates were trained from; None where the updates are initial weights.
        layout: the base's tensors, if its header has been read already.
        state: file of the algorithm's state after the round before.
    """

    base: Path | bytes | None = None
    layout: Layout | None = None
    state: Path | bytes | None = None


INITIAL = RoundStart()
"""The start of a round whose updates are a model's initial weights."""


class RoundInputs:
    """The opened inputs of a round: updates in the order of their edges, base, state."""

    def __init__(
        self, opened: ExitStack, updates: Mapping[str, Input], algorithm: Algorithm, start: RoundStart
    ) -> None:
        def reader(source: Path | bytes, tensors: Layout | None = None) -> Reader:
            return opened.enter_context(closing(Reader(source, tensors)))

        self.readers = {edge: reader(updates[edge].source, updates[edge].tensors) for edge in sorted(updates)}
        self._claimed = {edge: updates[edge].num_samples for edge in self.readers}
        self._algorithm = algorithm
        self.weights = self._shares()
        layout = start.layout
        if layout is None:
            layout = _layout_of(start.base) if start.base is not None else next(iter(self.readers.values())).tensors
        self.order: Sequence[Tensor] = list(layout.values())
        self._base = reader(start.base, layout) if start.base is not None else None
        self._not_finite = frozenset[str]().union(*(updates[edge].not_finite for edge in self.readers))
        self._buffers = [updates[edge].buffers for edge in self.readers]
        self._state = reader(start.state) if start.state is not None else None
        if self._state is not None:
            _check_state(self._state.tensors, algorithm, self.order)

    def _shares(self) -> list[float]:
        total = sum(self.samples.values())
        return [number / total for number in self.samples.values()]

    @property
    def samples(self) -> dict[str, float]:
        """The samples by which each edge counts, in the order of the edges."""
        claimed = {edge: self._claimed[edge] for edge in self.readers}
        return capped_samples(claimed, self._algorithm.parameters.max_share)

    def measured_spans(self) -> list[Span]:
        """Return the spans of the floating-point tensors that some update has, or of all where no update has any."""
        every = [tensor for tensor in self.order if tensor.is_float and not self.averages(tensor.name)]
        return spans([tensor for tensor in every if not self._keeps(tensor.name)] or every)

    def apply(self, decision: Decision) -> None:
        """Drop the excluded edges, and use the decision's weights."""
        if decision.excluded:
            self.readers = {edge: each for edge, each in self.readers.items() if edge not in decision.excluded}
            self.weights = self._shares() if self.readers else []
        if decision.weights is not None:
            self.weights = [weight for _, weight in zip(self.readers, decision.weights, strict=True)]

    def blocks(self, span: Span) -> list[Block]:
        """Return the span of every update; an update's tensors may have another order than the base's."""
        name, base = span.tensor.name, self._base
        return [
            _read(base if base is not None and name not in each.tensors else each, name, span)
            for each in self.readers.values()
        ]

    def averages(self, name: str) -> bool:
        """Return whether a tensor becomes the weighted mean: the algorithm does not combine buffers, and more than half
        of the updates say that it is one."""
        saying = 0 if self._algorithm.combines_buffers else sum(name in each for each in self._buffers)
        return 2 * saying > len(self._buffers)

    def mean(self, span: Span) -> Block:
        """Return the weighted mean of a floating-point span; what is not finite in an update stays."""
        import numpy as np

        updates, fixed = self.blocks(span), self.not_finite(span)
        if fixed is None:
            return weighted_mean(updates, self.weights)
        for block in updates:
            block[fixed[0]] = 0
        return np.where(fixed[0], fixed[1], weighted_mean(updates, self.weights))

    def kept(self, span: Span) -> Block | None:
        """Return the span's elements in the result, where the tensor takes no part in the round; else None."""
        name = span.tensor.name
        if not self._keeps(name):
            return None
        return _read(self._base if self._base is not None else next(iter(self.readers.values())), name, span)

    def not_finite(self, span: Span) -> tuple[Block, Block] | None:
        """Return which elements of the span are not finite in an update, and a block with their values; None where
        all are finite. The check of the updates has compared these elements with the base."""
        import numpy as np

        if span.tensor.name not in self._not_finite:
            return None
        blocks = self.blocks(span)
        values = blocks[0]
        for block in blocks[1:]:
            np.copyto(values, block, where=np.isfinite(values) & ~np.isfinite(block))
        where = ~np.isfinite(values)
        return (where, values) if where.any() else None

    def piece(self, span: Span, plan: Any = None) -> Piece:
        algorithm, tensor = self._algorithm, span.tensor
        updates = self.blocks(span)
        base = _read(self._base, tensor.name, span) if self._base is not None and algorithm.needs_base else None
        if (found := self.not_finite(span)) is not None:
            for block in (*updates, *(() if base is None else (base,))):
                block[found[0]] = 0  # so that no sum meets an infinity; the result gets the values back
        beside_it = {
            kind: [_read(each, beside(kind, tensor.name), span) for each in self.readers.values()]
            for kind in algorithm.beside
        }
        return Piece(
            tensor=tensor.name,
            edges=tuple(self.readers),
            updates=updates,
            weights=self.weights,
            base=base,
            beside=beside_it,
            state={kind: self.state_of(kind, span) for kind in algorithm.state},
            plan=plan,
        )

    def whole_state(self) -> Mapping[str, Block]:
        """Return the arrays of the state that belong to no tensor of the model."""
        reader = self._state
        if reader is None:
            return {}
        kinds = tuple(beside(kind, "") for kind in self._algorithm.state)
        return {
            name: reader.read(tensor, 0, tensor.count).reshape(tensor.shape)
            for name, tensor in reader.tensors.items()
            if not (kinds and name.startswith(kinds))
        }

    def state_of(self, kind: str, span: Span) -> Block:
        """Return a kind of state from the round before; before the first round its initial value."""
        import numpy as np

        if self._state is not None:
            return _read(self._state, beside(kind, span.tensor.name), span)
        dtype = np.float64 if wide_dtype(span.tensor) == "F64" else np.float32
        return np.full(span.count, self._algorithm.initial(kind), dtype)

    def _keeps(self, name: str) -> bool:
        if name.startswith(CONSTANT):
            return True
        return self._base is not None and not any(name in each.tensors for each in self.readers.values())


def wide_dtype(tensor: Tensor) -> str:
    """Return the dtype of the state of a floating-point tensor, and of what travels down beside it."""
    return "F64" if tensor.dtype == "F64" else "F32"


def _layout_of(source: Path | bytes) -> Layout:
    with TensorFile(source) as file:
        return dict(file.tensors)


def _read(reader: Reader, name: str, span: Span) -> Block:
    return reader.read(reader.tensors[name], span.start, span.count)


def _check_state(tensors: Layout, algorithm: Algorithm, order: Sequence[Tensor]) -> None:
    """Raise Refused where the state belongs to another algorithm or model."""
    for kind in algorithm.state:
        for tensor in order:
            if not tensor.is_float:
                continue
            name = beside(kind, tensor.name)
            found = tensors.get(name)
            expected, got = (wide_dtype(tensor), tensor.shape), (found.dtype, found.shape) if found else "none"
            if expected != got:
                raise Refused("state", field=f"state.{name}", expected=f"a tensor of {expected}", got=got)
