"""Incremental learning from inside the user's own training script.

    from heliograph import IncrementalLearning

    il = IncrementalLearning(model, strategy=Replay(1000))
    for round in il.rounds(x, y):
        train(round.x, round.y)                     # was: train(x, y)

In a job each turn of the loop is a round: the model has the weights of the deployed version when the body starts,
``round.x`` and ``round.y`` are newly labelled samples with exemplars of earlier ones, and the trained weights are sent
as a candidate when the body ends. Outside a job the same script trains on its own data.

A class's index is its row in the model's head for ever; a new class makes the head grow by a row.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from heliograph import script_process, session
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.incremental.adapters import learning_adapter_for
from heliograph.incremental.classes import ClassList
from heliograph.incremental.memory import Memory, read_memory
from heliograph.incremental.sample_files import read_shard
from heliograph.incremental.samples import Samples, joined, rows_of, samples_of
from heliograph.incremental.strategies import EWC, ICaRL, LwF, Replay, Strategy, strategies_of
from heliograph.incremental.trainer import Trainer
from heliograph.incremental.training_round import Batch, TrainingRound
from heliograph.metrics import Metrics, measured

__all__ = ["EWC", "Batch", "ICaRL", "IncrementalLearning", "LwF", "Replay", "Strategy", "TrainingRound"]

if session.reached == "nothing":
    session.reached = "imported"


class IncrementalLearning:
    """Training of ``model`` that goes on: in a job on what its label queue gives, outside a job on the script's data.

    Args:
        model: a dict of NumPy arrays, a torch.nn.Module, a Keras 3 model, or a scikit-learn classifier with
            ``partial_fit``.
        predict: gives scores (n, classes), logits or probabilities, of samples (n, ...), or the index of each one's
            class; by default the model itself. A dict of arrays needs it.
        strategy: against forgetting: ``Replay``, ``ICaRL``, ``EWC`` or ``LwF``, several of them in a list, or None.
        classes: the classes' names by their index; in a job those of its label queue, which begin alike.
        features: gives the features (n, d) of samples on which the head works. ICaRL with a dict of arrays needs it.
        head: what has a row for each class: the name of the last Linear or Dense layer, or of a dict's arrays; by
            default the last one.
        gradients: gives the gradients of the mean cross-entropy of samples, by the weights' names. EWC with a dict of
            arrays needs it.
        before: makes the model's input from one sample of the queue, as ``JointInference(before=...)`` does; the
            script's own ``x`` is the model's input already.
        evaluate: measures the present model and returns an accuracy, or metrics by name. A job calls it for the
            candidate and for the version that serves.
        force: let EWC or LwF alone learn new classes, though they forget the old ones then.
        seed: of what is drawn: batches, exemplars, rows of new classes.

    Attributes:
        history: the metrics of each round of this process, the present one last.
        memory: what is kept of the rounds so far.

    Raises:
        Refused: if the model is none of these, or an argument is missing for it.
    """

    def __init__(
        self,
        model: Any,
        *,
        predict: Callable[[Any], Any] | None = None,
        strategy: Any = Replay(),  # noqa: B008  # it keeps nothing: the memory does
        classes: Sequence[str] | None = None,
        features: Callable[[Any], Any] | None = None,
        head: str | Sequence[str] | Mapping[str, int] | None = None,
        gradients: Callable[[Any, Any], Mapping[str, Any]] | None = None,
        before: Callable[[Any], Any] | None = None,
        evaluate: Callable[[], Any] | None = None,
        force: bool = False,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.history: list[dict[str, float]] = []
        adapter = learning_adapter_for(model, predict=predict, features=features, head=head, gradients=gradients)
        self._trainer = Trainer(adapter, strategies_of(strategy), force, seed)
        self._classes = ClassList(classes)
        self._before = before
        self._evaluate = evaluate
        self._round = 0
        if session.reached in ("nothing", "imported"):
            session.reached = "made"

    @property
    def classes(self) -> list[str]:
        """The classes' names by their index; empty where they have none."""
        return list(self._classes.names)

    @property
    def memory(self) -> Memory:
        """What is kept of the rounds so far."""
        return self._trainer.memory

    def predict(self, x: Any) -> np.ndarray[Any, Any]:
        """Return the index of the class (n) int64 that the model gives to each of the samples (n, ...)."""
        return self._trainer.adapter.answers(rows_of(x))

    def rounds(self, x: Any = None, y: Any = None) -> Iterator[TrainingRound]:
        """Iterate over the rounds of the job; outside a job over one round, with ``x`` and ``y`` as its new samples.

        In a job ``x`` and ``y`` are what the first model is trained on; a model that comes with weights gets exemplars
        of them, so that its first round does not forget them. Outside a job the loop may be called again with further
        samples, and goes on from what the model has learned. A body that breaks out, or raises, sends no candidate.

        Args:
            x: samples (n, ...), or texts, or mappings of columns.
            y: (n), the index of each one's class, or its name.

        Raises:
            Refused: if there is no sample, a label is none, EWC or LwF alone would have to learn new classes, the job's
                weights do not fit the model, the trained ones are not finite, the job is of another kind, or a child
                process of a job's script loops.
        """
        if session.reached != "worked":
            session.reached = "called"
        session.check_loop("IncrementalLearningJob")
        if (job := session.learning) is not None:
            loop = self._work_through(job, x, y)
            job.begin_rounds(loop)
            return loop
        if script_process.parent() is not None:
            raise script_process.refusal()
        return self._local(x, y)

    def _local(self, x: Any, y: Any) -> Iterator[TrainingRound]:
        new = self._own_samples(x, y)
        if new is None:
            raise Refused("no-samples", field="x", expected="samples and their labels, since this is no job",
                          got="none", hint="il.rounds(x, y)")  # fmt: skip
        self._round += 1
        for this in self._trainer.train(self._round, new, classes=self._classes.names, local=True):
            self.history.append(this.metrics)
            yield this
        if self._evaluate is not None:
            self.history[-1].update(self._measured())

    def _work_through(self, job: session.LearnSession, x: Any, y: Any) -> Iterator[TrainingRound]:
        while (work := job.next_learning()) is not None:
            self._classes.agree(work.classes)
            if work.kind == "evaluate":
                self._answer(job, work)
            else:
                yield from self._learn(job, work, self._own_samples(x, y))

    def _learn(
        self, job: session.LearnSession, work: session.LearnWork, own: Samples | None
    ) -> Iterator[TrainingRound]:
        trainer, world = self._trainer, World()
        shards = [read_shard(each, self._before) for each in work.shards]
        trainer.memory = read_memory(work.memory) if work.memory is not None else Memory()
        if work.weights is not None:
            trainer.load(work.weights)
            if work.memory is None:
                if own is not None:
                    trainer.remember(own, work.round)
                else:  # all classes of its head count as known
                    trainer.memory = trainer.memory.with_seen(np.arange(trainer.adapter.count()))
        elif own is not None:
            shards = [own, *shards]
        if not shards:
            raise Refused("no-samples", field="x", expected="labelled samples of the job's queue, or the script's own",
                          got="none", hint="Label some: heliograph label QUEUE. Or give the first model its samples: "
                          "il.rounds(x, y).")  # fmt: skip
        began = world.monotonic()
        given = {**job.parameters, **work.parameters}
        new = joined(shards)
        for this in trainer.train(work.round, new, classes=self._classes.names, parameters=given):
            self.history.append(this.metrics)
            yield this
        seconds = world.monotonic() - began
        job.send_candidate(trainer.adapter.weights.get(), self.classes, trainer.memory.arrays(), len(new),
                           dict(self.history[-1]), seconds)  # fmt: skip

    def _answer(self, job: session.LearnSession, work: session.LearnWork) -> None:
        """Send what the candidate and the champion answer to the held-out samples."""
        trainer, names = self._trainer, self._classes.of
        shards = [read_shard(each, self._before) for each in work.shards]
        held_out = joined(shards) if shards else None
        champion, champion_metrics = None, dict[str, float]()
        if work.champion is not None:
            trainer.load(work.champion)
            champion = names(self._answers(held_out).tolist())
            champion_metrics = self._metrics_for_gate()
        if work.weights is not None:
            trainer.load(work.weights)
        candidate = names(self._answers(held_out).tolist())
        metrics = self._metrics_for_gate()
        ids = held_out.ids() if held_out is not None else []
        labels = names(held_out.y.tolist()) if held_out is not None else []
        job.send_answers(ids, labels, candidate, champion, metrics, champion_metrics)

    def _answers(self, samples: Samples | None) -> np.ndarray[Any, Any]:
        return self._trainer.adapter.answers(samples.x) if samples is not None else np.zeros(0, np.int64)

    def _own_samples(self, x: Any, y: Any) -> Samples | None:
        if x is None and y is None:
            return None
        if x is None or y is None:
            raise Refused("bad-argument", field="y" if y is None else "x", expected="both samples and labels",
                          got="one of the two", hint="il.rounds(x, y)")  # fmt: skip
        return samples_of(x, y, self._classes.index)

    def _metrics_for_gate(self) -> dict[str, float]:
        """Return the script's metrics, also those that are NaN or infinite: they speak against a candidate."""
        if self._evaluate is None:
            return {}
        result = self._evaluate()
        given = result if isinstance(result, Mapping) else {"accuracy": result}
        found = {str(name): float(value) for name, value in given.items()
                 if isinstance(value, (float, np.floating)) and not np.isfinite(value)}  # fmt: skip
        with warnings.catch_warnings():
            if found:
                warnings.simplefilter("ignore")  # the gate says it
            return dict(measured(result, self.model)) | found

    def _measured(self) -> Metrics:
        assert self._evaluate is not None
        return measured(self._evaluate(), self.model)
