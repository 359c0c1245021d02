"""Combine a round's updates into its result: the model, and the algorithm's other results.

Updates are combined in the order of their edges' names, and sums over blocks follow the order of the blocks. So the
result has the same bits in whatever order the updates came, with any number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from heliograph.workers.aggregation.blocks import spans
from heliograph.workers.aggregation.result_files import Result, ResultFiles
from heliograph.workers.aggregation.round_inputs import INITIAL, Input, RoundInputs, RoundStart
from heliograph.workers.algorithms import Algorithm, FedAvg, FedAvgParameters, RoundFacts

THREADS = 2


def aggregate(
    updates: Mapping[str, Input],
    algorithm: Algorithm,
    directory: Path,
    threads: int = THREADS,
    *,
    start: RoundStart = INITIAL,
    round: int = 0,
    asked: int = 0,
    edges_of_job: int = 0,
    refused: int = 0,
    metadata: Mapping[str, str] | None = None,
) -> Result:
    """Combine the updates into files ``directory/<digest>``, a small model inline. Return their references.

    The model has the dtypes of the base; without a base those of the first update. So a BF16 model stays in BF16 even
    if updates come widened to F32: they are summed in float32, and the sum is rounded once, to the nearest even.

    Without a base the updates are a model's initial weights, and the model is their weighted mean.

    Integer tensors (a batch-norm counter, say) become the weighted mean, rounded to even (``integers``); booleans the
    weighted majority. Where all updates agree, their value stays.

    Args:
        round, asked, edges_of_job, refused: as in ``RoundFacts``.
        metadata: metadata of the results' headers.
    """
    if start.base is None:
        algorithm = FedAvg(FedAvgParameters())
    with ExitStack() as opened, ThreadPoolExecutor(threads) as pool:
        inputs = RoundInputs(opened, updates, algorithm, start)
        measured = None
        if algorithm.measures:
            for each in pool.map(lambda span: algorithm.measure(inputs.piece(span)), inputs.measured_spans()):
                measured = each if measured is None else measured + each
        samples = inputs.samples
        edges = tuple(samples)
        decision = algorithm.decide(
            RoundFacts(
                round=round,
                asked=asked,
                edges=edges,
                num_samples=tuple(samples.values()),
                metrics=tuple(updates[edge].metrics for edge in edges),
                measured=measured,
                state=inputs.whole_state(),
                edges_of_job=edges_of_job,
                refused=refused,
            )
        )
        inputs.apply(decision)
        if not inputs.readers:
            return Result(excluded=decision.excluded)
        outputs = ResultFiles(opened, inputs, algorithm, decision, directory, metadata or {})
        for _ in pool.map(lambda span: outputs.write(span, inputs, algorithm, decision.plan), spans(inputs.order)):
            pass
        return outputs.finish(decision)
