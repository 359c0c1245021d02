"""Training of a pair from inside the user's own script.

    from heliograph import PairTraining

    pair = PairTraining(edge=shallow, cloud=deep)
    for part in pair.parts(x, y, public_x):            # was: train(deep, x, y), train(shallow, x, y)
        train(part.model, part.x, part.y)

Each turn of the loop trains one model: first the deep one, then the shallow one, which also learns the deep one's
scores (``part.batches(32)`` has a loss with both). In a PairTrainingJob the weights are sent when the body ends, and a
worker that is started again goes on at the step where it was. Outside a job the same script trains both, and
``pair.figures`` says what they do together.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from heliograph import script_process, session
from heliograph.bus.contract.resources.pair_plan import SIDES, PairFigures, PairPlan, SelectionFigures, Side
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.frameworks.loading import Loader
from heliograph.incremental.adapters import learning_adapter_for
from heliograph.incremental.classes import ClassList
from heliograph.incremental.samples import Samples, samples_of
from heliograph.inference.pairs.measuring import measure
from heliograph.inference.pairs.part import PairPart
from heliograph.inference.pairs.samples import Divided, Selection, check_classes, divide, select, training_samples
from heliograph.inference.predictors import predictor_for, reading_of
from heliograph.metrics import measured

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import TensorFile
    from heliograph.inference.predictors import Meaning

__all__ = ["PairPart", "PairTraining"]

Array = np.ndarray[Any, Any]
if session.reached == "nothing":
    session.reached = "imported"


class PairTraining:
    """Training of a shallow and a deep model: in a job on its data sets, outside a job on the script's own.

    Args:
        edge, cloud: the shallow and the deep model: a dict of NumPy arrays, a torch.nn.Module, a Keras 3 model or a
            scikit-learn classifier, each with the same classes.
        predict: gives the scores (n, classes) of samples, of a model and them: ``predict(model, x)``; by default the
            model itself. A dict of arrays needs it.
        outputs: what the scores are, ``probabilities`` or ``logits``, where the model does not tell.
        embed: gives the embeddings (n, d) of samples by which public ones are selected; by default their numbers.
        classes: the classes' names by their index; without them a label is its index.
        evaluate: measures the present models and returns an accuracy, or metrics by name.
        plan: outside a job what a PairTrainingJob's spec says: ``{"selection": {"count": 500}}``.
        seed: of what is drawn: batches, and rows of classes that a model lacks.

    Attributes:
        selected: what was selected from the public samples; None before.
        figures: what was measured of the pair; None before.

    Raises:
        Refused: if a model is none of these, or an argument is missing for it or wrong.
    """

    def __init__(
        self,
        edge: Any,
        cloud: Any,
        *,
        predict: Callable[[Any, Any], Any] | None = None,
        outputs: Meaning | None = None,
        embed: Callable[[Any], Any] | None = None,
        classes: Sequence[str] | None = None,
        evaluate: Callable[[], Any] | None = None,
        plan: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.selected: SelectionFigures | None = None
        self.figures: PairFigures | None = None
        self._models: dict[Side, Any] = {"edge": edge, "cloud": cloud}
        if edge is cloud:
            raise Refused("bad-argument", field="cloud", expected="another model than edge", got="the same one")
        reading = reading_of(None, outputs, None, None)
        given = {side: partial(predict, model) if predict is not None else None for side, model in self._models.items()}
        self._adapters = {side: learning_adapter_for(model, predict=given[side])
                          for side, model in self._models.items()}  # fmt: skip
        self._predictors = {side: predictor_for(given[side] or model, side, reading)
                            for side, model in self._models.items()}  # fmt: skip
        self._loaders = {side: Loader(adapter.weights) for side, adapter in self._adapters.items()}
        self._embed = embed
        self._evaluate = evaluate
        self._plan = _plan_of(plan)
        self._classes = ClassList(classes or self._plan.classes or None)
        self._seed = seed
        if session.reached in ("nothing", "imported"):
            session.reached = "made"

    def parts(
        self, x: Any, y: Any, public_x: Any = None, public_y: Any = None, *, evaluation_x: Any = None,
        evaluation_y: Any = None,
    ) -> Iterator[PairPart]:  # fmt: skip
        """Iterate over the models to train: the deep one, then the shallow one. A script has one such loop.

        A body that breaks out, or raises, sends nothing. After the loop ``figures`` are those of the trained pair.

        Args:
            x, y: the developer's samples (n, ...) and the index or the name of each one's class (n).
            public_x: samples of a public data set, in the same form, from which similar ones are selected.
            public_y: their labels; needed where the plan's ``selection.labels`` is ``public``.
            evaluation_x, evaluation_y: samples to tune and measure with; without them a part of ``x`` is held out.

        Raises:
            Refused: if there are too few samples, a class has none, no public sample is near, the job's weights do not
                fit a model, trained ones are not finite, the job is of another kind, or a child process of a job's
                script loops.
        """
        if session.reached != "worked":
            session.reached = "called"
        session.check_loop("PairTrainingJob")
        given = _Given(x, y, public_x, public_y, evaluation_x, evaluation_y)
        if (job := session.pairing) is not None:
            loop = self._work_through(job, given)
            job.begin_rounds(loop)
            return loop
        if script_process.parent() is not None:
            raise script_process.refusal()
        return self._local(given)

    def _local(self, given: _Given) -> Iterator[PairPart]:
        self._prepare(given, self._plan)
        selection = self._select()
        for side in SIDES:
            yield from self._trained(side, selection, {}, local=True)
        self.figures = self._measured()

    def _work_through(self, job: session.PairSession, given: _Given) -> Iterator[PairPart]:
        self._check_given(job, given)
        prepared: PairPlan | None = None
        while (work := job.next_step()) is not None:
            if work.plan != prepared:
                self._classes.agree(work.classes or work.plan.classes)
                self._prepare(given, work.plan)
                prepared = work.plan
            if work.step == "selecting":
                selection = self._select()
                assert self.selected is not None
                job.send_selection(selection.arrays(), self.selected, self._classes.names)
            elif work.step == "measuring":
                self._load("cloud", work.cloud)
                self._load("edge", work.edge)
                self.figures = self._measured()
                job.send_figures(self.figures)
            else:
                yield from self._train_in_job(job, work)

    def _train_in_job(self, job: session.PairSession, work: session.PairWork) -> Iterator[PairPart]:
        world = World()
        side: Side = "edge" if work.step == "training-edge" else "cloud"
        selection = Selection.of(_arrays(work.selection), len(self._divided.train), len(self._given.public))
        if work.weights is not None:
            self._load(side, work.weights)
        if side == "edge":
            self._load("cloud", work.cloud)
        began, parameters = world.monotonic(), {**job.parameters, **work.parameters}
        for part in self._trained(side, selection, parameters, local=False):
            yield part
            seconds = world.monotonic() - began
        job.send_model(self._adapters[side].weights.get(), self._classes.names, len(part), dict(part.metrics), seconds)

    def _prepare(self, given: _Given, plan: PairPlan) -> None:
        """Divide the samples, and see that there is one of each class to train on."""
        self._given, self._working_plan = given, plan
        own = samples_of(given.x, given.y, self._classes.index)
        evaluation = given.evaluation(self._classes.index)
        self._divided: Divided = divide(own, evaluation, plan.evaluation)
        if plan.selection.labels == "nearest" or given.public_x is None:
            check_classes(self._divided.train, self._divided.held_out, self._classes.names)

    def _select(self) -> Selection:
        rule = self._working_plan.selection
        selection, self.selected = select(self._divided, self._given.public_x, rule, self._embed)
        return selection

    def _trained(
        self, side: Side, selection: Selection, parameters: Mapping[str, Any], *, local: bool
    ) -> Iterator[PairPart]:
        """Yield the part in which the caller trains a model, and see that its weights are finite afterwards."""
        plan, given, rng = self._working_plan, self._given, np.random.default_rng([self._seed, SIDES.index(side)])
        samples = training_samples(self._divided, given.public_x, given.public_y, selection, plan.selection,
                                   self._classes.index)  # fmt: skip
        classes = check_classes(samples, self._divided.held_out, self._classes.names)
        self._fit_head(side, samples, classes, rng)
        teacher = None
        if side == "edge" and plan.distillation.share > 0:
            teacher = self._adapters["cloud"].logits(samples.x)
            if not np.isfinite(teacher).all():
                raise Refused("not-finite", field="cloud", expected="finite scores of the deep model", got="NaN or "
                              "infinity", hint="Its training has diverged: lower the learning rate.")  # fmt: skip
        yield PairPart(side, self._models[side], samples, classes, getattr(plan, side), plan.distillation, teacher, rng,
                       names=list(self._classes.names), local=local, parameters=parameters)  # fmt: skip
        self._check_finite(side)

    def _fit_head(self, side: Side, samples: Samples, classes: int, rng: np.random.Generator) -> None:
        """Make a model that has no weights yet, and give its head a row for each class."""
        adapter = self._adapters[side]
        adapter.prepare(classes, samples.x)
        if adapter.count() > classes:
            raise Refused("bad-model", field=side, expected=f"{classes} classes, as the samples have",
                          got=f"a model of {adapter.count()}",
                          hint="Name all classes that the model tells apart, with samples of each.")  # fmt: skip
        adapter.resize(classes, rng)

    def _load(self, side: Side, weights: TensorFile | None) -> None:
        """Write a model's weights into it. Raise Refused where they do not fit."""
        assert weights is not None
        adapter, arrays = self._adapters[side], weights.arrays()
        classes = adapter.count_in(arrays)
        adapter.prepare(classes, arrays=arrays)
        adapter.resize(classes, np.random.default_rng(self._seed))
        self._loaders[side].load(weights)

    def _measured(self) -> PairFigures:
        """Return what the models do now, with the script's own metrics; one that is no number speaks against them."""
        count = max(self._adapters[side].count() for side in SIDES)
        names = [self._classes.name(each) for each in range(count)]
        figures = measure(self._working_plan, self._divided, self._predictors["edge"], self._predictors["cloud"], names)
        if self._evaluate is None:
            return figures
        result = self._evaluate()
        given = result if isinstance(result, Mapping) else {"accuracy": result}
        against = [f"metric {name} is {float(value)}" for name, value in given.items()
                   if isinstance(value, (float, np.floating)) and not np.isfinite(value)]  # fmt: skip
        with warnings.catch_warnings():
            if against:
                warnings.simplefilter("ignore")  # the job says it
            metrics = dict(measured(result, self._models["edge"]))
        return figures.model_copy(update={"metrics": metrics, "against": against[:64]})

    def _check_finite(self, side: Side) -> None:
        for name, array in self._adapters[side].weights.get().items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise Refused("not-finite", field=name, expected=f"finite weights of the {side}'s model after training",
                              got="NaN or infinity", hint="The training has diverged: lower the learning "
                              "rate.")  # fmt: skip

    def _check_given(self, job: session.PairSession, given: _Given) -> None:
        """Raise Refused where the job has a data set that the script does not give."""
        for purpose, samples in (("public", given.public_x), ("evaluation", given.evaluation_x)):
            if purpose in job.further_datasets and samples is None:
                raise Refused("no-samples", field=f"{purpose}_x", expected=f"the samples of the job's {purpose} data "
                              "set", got="none", hint=f"Read heliograph.dataset({purpose!r}), and give what it has to "
                              "parts().")  # fmt: skip


class _Given:
    """What the script has given to ``parts``."""

    def __init__(self, x: Any, y: Any, public_x: Any, public_y: Any, evaluation_x: Any, evaluation_y: Any) -> None:
        self.x, self.y = x, y
        self.public_x, self.public_y = public_x, public_y
        self.evaluation_x, self.evaluation_y = evaluation_x, evaluation_y

    @property
    def public(self) -> Sequence[Any]:
        found: Sequence[Any] = self.public_x if self.public_x is not None else ()
        return found

    def evaluation(self, index: Callable[[Any], int]) -> Samples | None:
        if self.evaluation_x is None and self.evaluation_y is None:
            return None
        if self.evaluation_x is None or self.evaluation_y is None:
            missing = "evaluation_y" if self.evaluation_y is None else "evaluation_x"
            raise Refused("bad-argument", field=missing, expected="both samples and labels", got="one of the two")
        return samples_of(self.evaluation_x, self.evaluation_y, index)


def _plan_of(given: Mapping[str, Any] | None) -> PairPlan:
    from heliograph.bus.contract.resources import refusal_of

    try:
        return PairPlan.model_validate(given or {})
    except ValidationError as error:
        raise refusal_of(error, "plan") from None


def _arrays(file: TensorFile | None) -> dict[str, Array]:
    if file is None:
        return {}
    with file:
        return {name: array.copy() for name, array in file.arrays().items()}
