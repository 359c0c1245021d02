"""A round's updates become its result: the model, and what else the algorithm leaves.

The updates are taken in the order of their edges' names, and what is summed over blocks is summed in the blocks' order.
So the result is the same bits whatever order the updates came in, and however many threads work on it.
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
    """One update: where its bytes lie, and what its edge said of it; ``tensors`` as ``Reader`` takes them."""

    source: Path | bytes
    num_samples: float
    tensors: Layout | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Before:
    """What a round begins with.

    Attributes:
        base: the model that the updates were trained from; None where they are its initial weights.
        layout: the base's tensors, where its header has been read.
        state: the file of the algorithm's state after the round before.
    """

    base: Path | bytes | None = None
    layout: Layout | None = None
    state: Path | bytes | None = None


@dataclass(frozen=True)
class Result:
    """What a round leaves. ``model`` is None where the algorithm excluded every update, as ``excluded`` says."""

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
    before: Before = Before(),
    round: int = 0,
    asked: int = 0,
    metadata: Mapping[str, str] | None = None,
) -> Result:
    """Combines the updates into files ``directory/<digest>``; the model is inline where it is small.

    The model has the dtypes of the base; without one those of the first update. So a model in BF16 stays in BF16 also
    where updates come widened to F32: their sum is taken in float32 and rounded once, to the nearest even.

    Without a base the updates are a model's initial weights, and the model is their weighted mean.

    Integer tensors (a batch-norm counter, say) become the weighted mean, rounded to even; booleans the weighted
    majority.

    Args:
        round, asked: as in ``RoundFacts``.
        metadata: goes into the results' headers.
    """
    if before.base is None:
        algorithm = FedAvg(FedAvgParameters())
    with ExitStack() as opened, ThreadPoolExecutor(threads) as pool:
        inputs = _Inputs(opened, updates, algorithm, before)
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
        inputs.take(decision)
        if not inputs.readers:
            return Result(excluded=decision.excluded)
        outputs = _Outputs(opened, inputs, algorithm, decision, directory, metadata or {})
        for _ in pool.map(lambda span: outputs.write(span, inputs, algorithm, decision.plan), spans(inputs.order)):
            pass
        return outputs.finish(decision)


class _Inputs:
    """Everything a round is made of, opened: updates in the order of their edges, base, state."""

    def __init__(
        self, opened: ExitStack, updates: Mapping[str, Input], algorithm: Algorithm, before: Before
    ) -> None:
        def reader(source: Path | bytes, tensors: Layout | None = None) -> Reader:
            return opened.enter_context(closing(Reader(source, tensors)))

        self.readers = {edge: reader(updates[edge].source, updates[edge].tensors) for edge in sorted(updates)}
        self._samples = {edge: updates[edge].num_samples for edge in self.readers}
        self.weights = self._shares()
        self._algorithm = algorithm
        layout = before.layout
        if layout is None:
            layout = _layout_of(before.base) if before.base is not None else next(iter(self.readers.values())).tensors
        self.order: Sequence[Tensor] = list(layout.values())
        self._base = reader(before.base, layout) if algorithm.needs_base and before.base is not None else None
        self._state = reader(before.state) if before.state is not None else None
        if self._state is not None:
            _check_state(self._state.tensors, algorithm, self.order)

    def _shares(self) -> list[float]:
        total = sum(self._samples[edge] for edge in self.readers)
        return [self._samples[edge] / total for edge in self.readers]

    def float_spans(self) -> list[Span]:
        return spans(tensor for tensor in self.order if tensor.is_float)

    def take(self, decision: Decision) -> None:
        """From now on without the edges that are excluded, and with the decision's weights."""
        if decision.excluded:
            self.readers = {edge: each for edge, each in self.readers.items() if edge not in decision.excluded}
            self.weights = self._shares() if self.readers else []
        if decision.weights is not None:
            self.weights = [weight for _, weight in zip(self.readers, decision.weights, strict=True)]

    def blocks(self, span: Span) -> list[Block]:
        """The span in every update, which may hold its tensors in another order than the base."""
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
        """The arrays of the state that belong to no tensor of the model."""
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
    """The files of a round's result while they are written. What is not finished is dropped."""

    def __init__(
        self, opened: ExitStack, inputs: _Inputs, algorithm: Algorithm, decision: Decision, directory: Path,
        metadata: Mapping[str, str],
    ) -> None:  # fmt: skip
        order = inputs.order

        def writer(name: str, layout: Mapping[str, tuple[str, tuple[int, ...]]], **more: str) -> Writer:
            return opened.enter_context(closing(Writer(directory, name, layout, {**metadata, **more})))

        def kept(part: str, kinds: Sequence[str], whole: Mapping[str, Block]) -> Writer | None:
            layout = {beside(kind, each.name): (_wide(each), each.shape)
                      for kind in kinds for each in order if each.is_float}  # fmt: skip
            arrays = {name: _plain(array) for name, array in whole.items()}
            layout |= {name: (_DTYPES[array.dtype.kind], array.shape) for name, array in arrays.items()}
            if not layout:
                return None
            made = writer(part, dict(sorted(layout.items(), key=lambda item: _WIDEST.index(item[1][0]))), part=part)
            for name, array in arrays.items():
                made.write(name, 0, array.reshape(-1))
            return made

        model = {each.name: (each.dtype, each.shape) for each in order}
        self._model = writer("model", model)
        self._state = kept("state", algorithm.state, decision.state)
        self._down = kept("down", algorithm.down, decision.down)
        edges = inputs.readers if algorithm.personal else ()
        self._personal = {edge: writer(f"personal-{edge}", model, part="personal", edge=edge) for edge in edges}

    def write(self, span: Span, inputs: _Inputs, algorithm: Algorithm, plan: Any) -> None:
        """Combines one block and writes what it becomes."""
        name, start = span.tensor.name, span.start
        if not span.tensor.is_float:
            counted = _counters(inputs.blocks(span), inputs.weights)
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
"""How whole arrays are kept, by NumPy's kind: as wide as they can be."""
_WIDEST = ("F64", "I64", "F32", "BOOL")
"""The format has no gaps: so sorted, every tensor lies where NumPy can view it."""


def _plain(array: Block) -> Block:
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
    """Raises Refused where the state is not this algorithm's of this model."""
    for kind, tensor in _wanted(algorithm, order):
        name = beside(kind, tensor.name)
        found = tensors.get(name)
        expected, got = (_wide(tensor), tensor.shape), (found.dtype, found.shape) if found is not None else "none"
        if expected != got:
            raise Refused("state", field=f"state.{name}", expected=f"a tensor of {expected}", got=got)


def _wanted(algorithm: Algorithm, order: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    for kind in algorithm.state:
        for tensor in order:
            if tensor.is_float:
                yield kind, tensor


def _counters(blocks: Sequence[Block], weights: Sequence[float]) -> Block:
    import numpy as np

    total = np.zeros(blocks[0].shape, np.float64)
    for block, weight in zip(blocks, weights, strict=True):
        total += block.astype(np.float64) * weight
    if blocks[0].dtype == np.bool_:
        return total > 0.5
    return np.rint(total).astype(blocks[0].dtype)
