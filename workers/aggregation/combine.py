"""Combine a round's updates into its result: the model, and the algorithm's other results.

Updates are combined in the order of their edges' names, and sums over blocks follow the order of the blocks. So the
result has the same bits in whatever order the updates came, with any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import Tensor, TensorFile, beside
from heliograph.core.errors import Refused
from heliograph.workers.aggregation.blocks import Layout, Reader, Span, Writer, spans
from heliograph.workers.algorithms import Algorithm, Decision, FedAvg, FedAvgParameters, Piece, RoundFacts

if TYPE_CHECKING:
    import numpy as np

    Block = np.ndarray[Any, Any]

THREADS = 2


@dataclass(frozen=True)
class Input:
    """One update: the source of its weights, and its edge's claims; ``tensors`` as ``Reader`` takes them."""

    source: Path | bytes
    num_samples: float
    tensors: Layout | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


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


@dataclass(frozen=True)
class Result:
    """The results of a round. ``model`` is None where the algorithm excluded every update; see ``excluded``."""

    model: WeightsRef | None = None
    state: WeightsRef | None = None
    down: WeightsRef | None = None
    personal: Mapping[str, WeightsRef] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)


def aggregate(
    updates: Mapping[str, Input],
    algorithm: Algorithm,
    directory: Path,
    threads: int = THREADS,
    *,
    start: RoundStart = RoundStart(),
    round: int = 0,
    asked: int = 0,
    metadata: Mapping[str, str] | None = None,
) -> Result:
    """Combine the updates into files ``directory/<digest>``, a small model inline. Return their references.

    The model has the dtypes of the base; without a base those of the first update. So a BF16 model stays in BF16 even
    if updates come widened to F32: they are summed in float32, and the sum is rounded once, to the nearest even.

    Without a base the updates are a model's initial weights, and the model is their weighted mean.

    Integer tensors (a batch-norm counter, say) become the weighted mean, rounded to even; booleans the weighted
    majority.

    Args:
        round, asked: as in ``RoundFacts``.
        metadata: metadata of the results' headers.
    """
    if start.base is None:
        algorithm = FedAvg(FedAvgParameters())
    with ExitStack() as opened, ThreadPoolExecutor(threads) as pool:
        inputs = _Inputs(opened, updates, algorithm, start)
        measured = None
        if algorithm.measures:
            for each in pool.map(lambda span: algorithm.measure(inputs.piece(span)), inputs.float_spans()):
                measured = each if measured is None else measured + each
        edges = tuple(inputs.readers)
        decision = algorithm.decide(
            RoundFacts(
                round=round,
                asked=asked,
                edges=edges,
                num_samples=tuple(updates[edge].num_samples for edge in edges),
                metrics=tuple(updates[edge].metrics for edge in edges),
                measured=measured,
                state=inputs.whole_state(),
            )
        )
        inputs.apply(decision)
        if not inputs.readers:
            return Result(excluded=decision.excluded)
        outputs = _Outputs(opened, inputs, algorithm, decision, directory, metadata or {})
        for _ in pool.map(lambda span: outputs.write(span, inputs, algorithm, decision.plan), spans(inputs.order)):
            pass
        return outputs.finish(decision)


class _Inputs:
    """The opened inputs of a round: updates in the order of their edges, base, state."""

    def __init__(
        self, opened: ExitStack, updates: Mapping[str, Input], algorithm: Algorithm, start: RoundStart
    ) -> None:
        def reader(source: Path | bytes, tensors: Layout | None = None) -> Reader:
            return opened.enter_context(closing(Reader(source, tensors)))

        self.readers = {edge: reader(updates[edge].source, updates[edge].tensors) for edge in sorted(updates)}
        self._samples = {edge: updates[edge].num_samples for edge in self.readers}
        self.weights = self._shares()
        self._algorithm = algorithm
        layout = start.layout
        if layout is None:
            layout = _layout_of(start.base) if start.base is not None else next(iter(self.readers.values())).tensors
        self.order: Sequence[Tensor] = list(layout.values())
        self._base = reader(start.base, layout) if algorithm.needs_base and start.base is not None else None
        self._state = reader(start.state) if start.state is not None else None
        if self._state is not None:
            _check_state(self._state.tensors, algorithm, self.order)

    def _shares(self) -> list[float]:
        total = sum(self._samples[edge] for edge in self.readers)
        return [self._samples[edge] / total for edge in self.readers]

    def float_spans(self) -> list[Span]:
        return spans(tensor for tensor in self.order if tensor.is_float)

    def apply(self, decision: Decision) -> None:
        """Drop the excluded edges, and use the decision's weights."""
        if decision.excluded:
            self.readers = {edge: each for edge, each in self.readers.items() if edge not in decision.excluded}
            self.weights = self._shares() if self.readers else []
        if decision.weights is not None:
            self.weights = [weight for _, weight in zip(self.readers, decision.weights, strict=True)]

    def blocks(self, span: Span) -> list[Block]:
        """Return the span of every update; an update's tensors may have another order than the base's."""
        name = span.tensor.name
        return [each.read(each.tensors[name], span.start, span.count) for each in self.readers.values()]

    def piece(self, span: Span, plan: Any = None) -> Piece:
        algorithm, tensor = self._algorithm, span.tensor
        beside_it = {
            kind: [_read(each, beside(kind, tensor.name), span) for each in self.readers.values()]
            for kind in algorithm.beside
        }
        return Piece(
            tensor=tensor.name,
            edges=tuple(self.readers),
            updates=self.blocks(span),
            weights=self.weights,
            base=_read(self._base, tensor.name, span) if self._base is not None else None,
            beside=beside_it,
            state={kind: self._state_of(kind, span) for kind in algorithm.state},
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

    def _state_of(self, kind: str, span: Span) -> Block:
        import numpy as np

        if self._state is not None:
            return _read(self._state, beside(kind, span.tensor.name), span)
        dtype = np.float64 if _wide(span.tensor) == "F64" else np.float32
        return np.full(span.count, self._algorithm.initial(kind), dtype)


class _Outputs:
    """The files of a round's result while they are written; unfinished files are deleted."""

    def __init__(
        self, opened: ExitStack, inputs: _Inputs, algorithm: Algorithm, decision: Decision, directory: Path,
        metadata: Mapping[str, str],
    ) -> None:  # fmt: skip
        order = inputs.order

        def writer(name: str, layout: Mapping[str, tuple[str, tuple[int, ...]]], **more: str) -> Writer:
            return opened.enter_context(closing(Writer(directory, name, layout, {**metadata, **more})))

        def writer_of_kinds(part: str, kinds: Sequence[str], whole: Mapping[str, Block]) -> Writer | None:
            layout = {beside(kind, each.name): (_wide(each), each.shape)
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

    def write(self, span: Span, inputs: _Inputs, algorithm: Algorithm, plan: Any) -> None:
        """Combine one block and write the result."""
        name, start = span.tensor.name, span.start
        if not span.tensor.is_float:
            counted = _mean_of_counters(inputs.blocks(span), inputs.weights)
            for each in (self._model, *self._personal.values()):
                each.write(name, start, counted)
            return
        combined = algorithm.combine(inputs.piece(span, plan))
        self._model.write(name, start, combined.model)
        for kind in algorithm.state:
            assert self._state is not None
            self._state.write(beside(kind, name), start, combined.state[kind])
        for kind in algorithm.down:
            assert self._down is not None
            self._down.write(beside(kind, name), start, combined.down[kind])
        for each, block in zip(self._personal.values(), combined.personal, strict=True):
            each.write(name, start, block)

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


def _widened(array: Block) -> Block:
    import numpy as np

    array = np.asarray(array)
    wide = {"f": np.float64, "i": np.int64, "u": np.int64, "b": np.bool_}[array.dtype.kind]
    return array.astype(wide)


def _layout_of(source: Path | bytes) -> Layout:
    with TensorFile(source) as file:
        return dict(file.tensors)


def _read(reader: Reader, name: str, span: Span) -> Block:
    return reader.read(reader.tensors[name], span.start, span.count)


def _wide(tensor: Tensor) -> str:
    return "F64" if tensor.dtype == "F64" else "F32"


def _check_state(tensors: Layout, algorithm: Algorithm, order: Sequence[Tensor]) -> None:
    """Raise Refused where the state belongs to another algorithm or model."""
    for kind, tensor in _state_tensors(algorithm, order):
        name = beside(kind, tensor.name)
        found = tensors.get(name)
        expected, got = (_wide(tensor), tensor.shape), (found.dtype, found.shape) if found is not None else "none"
        if expected != got:
            raise Refused("state", field=f"state.{name}", expected=f"a tensor of {expected}", got=got)


def _state_tensors(algorithm: Algorithm, order: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    for kind in algorithm.state:
        for tensor in order:
            if tensor.is_float:
                yield kind, tensor


def _mean_of_counters(blocks: Sequence[Block], weights: Sequence[float]) -> Block:
    import numpy as np

    total = np.zeros(blocks[0].shape, np.float64)
    for block, weight in zip(blocks, weights, strict=True):
        total += block.astype(np.float64) * weight
    if blocks[0].dtype == np.bool_:
        return total > 0.5
    return np.rint(total).astype(blocks[0].dtype)
