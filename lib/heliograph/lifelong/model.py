"""A model of many tasks: the right one answers a sample, and samples of none open a new one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from heliograph.bus.contract.resources.label_queue import MAX_CLASSES
from heliograph.core.errors import Refused
from heliograph.incremental.adapters import LearningAdapter, learning_adapter_for
from heliograph.incremental.samples import Samples, joined, plain, rows_of, samples_of, without
from heliograph.lifelong import task as tasks
from heliograph.lifelong.attributes import Attributes, agree, attributes_of
from heliograph.lifelong.placing import NONE, placed
from heliograph.lifelong.task import LearnedTask

if TYPE_CHECKING:
    from heliograph.incremental.training_round import TrainingRound

Array = np.ndarray[Any, Any]
MAX_TASKS = 256
LEAST_SAMPLES = 10
"""Samples of which a task may be made, at least: some of them set its limits."""
_NAME = re.compile(r"task/(0|[1-9]\d{0,2})/(.+)", re.DOTALL)
_STEEPNESS = 4
"""How fast the scores of a sample fall beyond the limit: at 1 they are half, at 2 a seventeenth."""


@dataclass(frozen=True)
class Learned:
    """What a round of learning did.

    Attributes:
        opened: numbers of the tasks that were opened.
        trained: numbers of the earlier tasks that have learned on.
        waiting: samples of no task, too few yet to open one.
    """

    opened: tuple[int, ...] = ()
    trained: tuple[int, ...] = ()
    waiting: int = 0


class LifelongModel:
    """A model for each task, of any framework, and which of them a sample belongs to.

    It scores samples as a function does, ``model(x)``: the probabilities of the task that knows the sample best, which
    sum to less than 1 the less it is known: to a half at the limit of its known samples. So the rule ``unknown``, or
    ``threshold``, finds the samples of no task. It has ``get()``, ``set(arrays)`` and ``resize(classes)``:
    IncrementalLearning trains it, JointInference serves it, and a version with more tasks is set as any other.

    Args:
        make: builds a model for one task, always of the same form: what IncrementalLearning takes.
        train: ``train(model, x, y)`` trains such a model; y has the indices of classes. Who only serves needs none.
        classes: number of classes of all tasks; it grows.
        enough: samples of no task that open a new one, and of a task with which it learns on.
        predict: ``predict(model, x)`` gives scores (n, classes); a dict of arrays needs it.
        features: ``features(model, x)`` gives the features (n, d) whose distance is measured; by default the samples.
        inputs: makes the models' input from one sample.
        attributes: gives the attributes of one sample, as a mapping; a task takes samples whose attributes agree with
            its own.
        seed: of the rows of new classes.

    Attributes:
        tasks: the tasks, in the order in which they were opened.
        classes: number of classes.

    Raises:
        Refused: if an argument is none of these.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        train: Callable[[Any, Array, Array], Any] | None = None,
        *,
        classes: int = 2,
        enough: int = 100,
        predict: Callable[[Any, Array], Any] | None = None,
        features: Callable[[Any, Array], Any] | None = None,
        inputs: Callable[[Any], Any] | None = None,
        attributes: Callable[[Any], Mapping[str, Any] | None] | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("make", make), ("train", train), ("predict", predict), ("features", features),
                            ("inputs", inputs), ("attributes", attributes)):  # fmt: skip
            if not callable(value) and (value is not None or name == "make"):
                raise Refused("bad-argument", field=name, expected="a function", got=type(value).__name__)
        self.tasks: tuple[LearnedTask, ...] = ()
        self.classes = _whole("classes", classes, 2, MAX_CLASSES)
        self._enough = _whole("enough", enough, LEAST_SAMPLES, 10**9)
        self._make, self._train, self._predict, self._features = make, train, predict, features
        self._inputs, self._attributes = inputs, attributes
        self._seed = seed
        self._waiting = np.zeros(0, np.int64)
        self._new_model()  # its errors come here, and not with the first samples

    def __call__(self, x: Any) -> Array:
        """Return scores (n, classes) of samples (n, ...): probabilities, less the probability of no task."""
        _, unknown, probabilities = self._routed(rows_of(x))
        return np.asarray(probabilities / (1 + unknown[:, None] ** _STEEPNESS))

    def unknown(self, x: Any) -> Array:
        """Return how little each sample is known (n): up to 1 for known ones, larger for less known ones; infinity
        where no task has its attributes."""
        return self._routed(rows_of(x))[1]

    def choose(self, x: Any) -> Array:
        """Return the number of the task (n) that each sample belongs to, or -1 for one of none."""
        chosen, unknown, _ = self._routed(rows_of(x))
        return np.where(unknown <= 1, chosen, NONE)

    def open(self, x: Any, y: Any, attributes: Mapping[str, Any] | None = None) -> int:
        """Open a task with samples (n, ...) and the index of each one's class, and return its number.

        Raise Refused where the samples are too few or too many tasks are open.
        """
        samples = samples_of(x, y)
        if len(samples) < LEAST_SAMPLES:
            raise Refused("no-samples", field="x", expected=f"{LEAST_SAMPLES} samples or more, of which some set the "
                          "task's limits", got=len(samples))  # fmt: skip
        self.resize(max(self.classes, int(samples.y.max()) + 1))
        self.tasks = (*self.tasks, self._opened(samples, attributes_of(attributes)))
        return len(self.tasks) - 1

    def learn(self, this: TrainingRound) -> Learned:
        """Learn the samples of a round: those of a task train it on, and enough of none open a new one.

        Samples that wait for a new task lie in the round's memory (``strategy=Replay(...)``), not in the model.
        Where this raises, all tasks are as they were, but for what ``train`` has done to its model.
        """
        samples = joined([this.all])
        self.resize(max(self.classes, int(samples.y.max(initial=0)) + 1))
        keys = _keys(samples)
        is_new = ~np.isin(keys, _keys(without(samples, this.new)))
        nearest, unknown, probabilities = self._routed(samples.x)
        own_of = placed(nearest, unknown, probabilities.argmax(1), samples.y, [each.classes for each in self.tasks],
                        ~is_new & ~np.isin(keys, self._waiting))  # fmt: skip
        changed, trained = list(self.tasks), []
        for number, task in enumerate(self.tasks):
            own = own_of == number
            if (own & is_new).any() and own.sum() >= self._enough:
                changed[number] = self._learned(samples[own], task.attributes, task.model, task.adapter, task)
                trained.append(number)
        opened, waiting = [], []
        for attributes, places in self._grouped(samples.x, np.flatnonzero(own_of == NONE)).items():
            if len(places) < self._enough:
                waiting += places
                continue
            opened.append(len(changed))
            changed.append(self._opened(samples[places], dict(attributes), len(changed)))
        self.tasks, self._waiting = tuple(changed), keys[waiting]
        return Learned(tuple(opened), tuple(trained), len(waiting))

    def get(self) -> dict[str, Array]:
        """Return a copy of the weights of all tasks, by names that begin with ``task/NUMBER/``.

        ``waiting`` has numbers made of the hashes of the samples that wait for a task, and no sample.
        """
        found = {"classes": np.array([self.classes], np.int64), "waiting": self._waiting.copy()}
        for number, task in enumerate(self.tasks):
            found |= {f"task/{number}/{name}": array for name, array in task.arrays().items()}
        return found

    def set(self, arrays: Mapping[str, Array]) -> None:
        """Take over the tasks of a version, any number of them. Raise Refused where it is none; nothing changes
        then."""
        count = arrays.get("classes")
        if count is None or count.shape != (1,) or count.dtype.kind not in "iu" or not 2 <= count[0] <= MAX_CLASSES:
            raise Refused("bad-weights", field="classes", expected=f"the number of classes, 2 to {MAX_CLASSES}",
                          got="none" if count is None else f"{count.dtype} {count.shape}",
                          hint="The weights belong to another kind of model than a LifelongModel.")  # fmt: skip
        waiting = arrays.get("waiting")
        if waiting is None or waiting.ndim != 1 or waiting.dtype != np.int64:
            raise Refused("bad-weights", field="waiting", expected="int64 numbers of samples that wait",
                          got="none" if waiting is None else f"{waiting.dtype} {waiting.shape}")  # fmt: skip
        parts: dict[int, dict[str, Array]] = defaultdict(dict)
        for name, array in arrays.items():
            if name in ("classes", "waiting"):
                continue
            found = _NAME.fullmatch(name)
            if found is None or int(found[1]) >= MAX_TASKS:
                raise Refused("bad-weights", field=name, expected=f"arrays of tasks 0 to {MAX_TASKS - 1}",
                              got="an array of this name")  # fmt: skip
            parts[int(found[1])][found[2]] = array
        if sorted(parts) != list(range(len(parts))):
            raise Refused("bad-weights", field="task", expected="tasks from 0 without a gap", got=sorted(parts)[:20])
        read = [tasks.read(parts[number], f"task/{number}/", *self._new_model(), self._features, int(count[0]))
                for number in range(len(parts))]  # fmt: skip
        self.tasks, self.classes, self._waiting = tuple(read), int(count[0]), waiting.copy()

    def resize(self, classes: int) -> None:
        """Let there be more classes: the models of all tasks get rows for them, and answer none of them yet."""
        if classes <= self.classes:
            return
        _whole("classes", classes, 2, MAX_CLASSES)
        for number, task in enumerate(self.tasks):
            task.resize(classes, self._rng(number))
        self.classes = classes

    def _opened(self, samples: Samples, attributes: Attributes, number: int | None = None) -> LearnedTask:
        number = len(self.tasks) if number is None else number
        if number >= MAX_TASKS:
            raise Refused("bad-argument", field="tasks", expected=f"at most {MAX_TASKS} tasks", got=number + 1,
                          hint="Let larger groups of samples open a task: enough=...")  # fmt: skip
        model, adapter = self._new_model()
        x = self._input(samples.x)
        adapter.prepare(self.classes, x[:1])
        adapter.resize(self.classes, self._rng(number))
        return self._learned(samples, attributes, model, adapter)

    def _learned(
        self, samples: Samples, attributes: Attributes, model: Any, adapter: LearningAdapter,
        before: LearnedTask | None = None,
    ) -> LearnedTask:  # fmt: skip
        if self._train is None:
            raise Refused("bad-argument", field="train", expected="train(model, x, y), which trains a task's model",
                          got="none", hint="LifelongModel(make, train)")  # fmt: skip
        order = np.lexsort((_keys(samples), samples.y))
        return tasks.learned(model, adapter, self._train, self._features, attributes, self._input(samples.x),
                             samples.y, order, self.classes, before)  # fmt: skip

    def _routed(self, x: Array) -> tuple[Array, Array, Array]:
        """Return of each sample the task that knows it best, how little that is, and its probabilities."""
        chosen, unknown = np.zeros(len(x), np.int64), np.full(len(x), np.inf)
        probabilities = np.zeros((len(x), self.classes))
        if not len(x) or not self.tasks:
            return chosen, unknown, probabilities
        given, attributes = self._input(x), self._attributes_of(x)
        for number, task in enumerate(self.tasks):
            said = task.probabilities(given, self.classes)
            strange = task.unknown(given, said)
            if attributes:
                strange[[not agree(task.attributes, each) for each in attributes]] = np.inf
            better = strange < unknown
            chosen[better], unknown[better], probabilities[better] = number, strange[better], said[better]
        return chosen, unknown, probabilities

    def _grouped(self, x: Array, places: Array) -> dict[tuple[tuple[str, str], ...], list[int]]:
        """Return places of samples by their attributes, in the order in which they come first."""
        attributes = self._attributes_of(x[places])
        groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
        for number, place in enumerate(places.tolist()):
            groups.setdefault(tuple(attributes[number].items()) if attributes else (), []).append(place)
        return groups

    def _attributes_of(self, x: Array) -> Sequence[dict[str, str]]:
        return [] if self._attributes is None else [attributes_of(self._attributes(each)) for each in x]

    def _input(self, x: Array) -> Array:
        found = x if self._inputs is None else np.stack([plain(self._inputs(each)) for each in x])
        if found.dtype.kind not in "fiub":
            raise Refused("invalid", field="x", expected="samples as arrays of numbers", got=f"{found.dtype} samples",
                          hint="LifelongModel(inputs=...) makes the models' input from one sample.")  # fmt: skip
        return found

    def _new_model(self) -> tuple[Any, LearningAdapter]:
        model, predict = self._make(), self._predict
        if predict is None:
            return model, learning_adapter_for(model)
        return model, learning_adapter_for(model, predict=lambda x: predict(model, x))

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, number])


def _keys(samples: Samples) -> Array:
    """Return a number of each sample, by its hash."""
    return np.ascontiguousarray(samples.id[:, :8]).view("<i8").reshape(-1)


def _whole(name: str, value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise Refused("bad-argument", field=name, expected=f"a whole number from {least} to {most}", got=value)
    return value
