"""Row 7: a user asks joint inference for what the model itself says: labels, one number, a regression, odd samples."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph import BigModel, JointInference, session
from heliograph.bus.contract.event import parse
from heliograph.bus.contract.payloads import InferenceSpec
from heliograph.bus.transport import Message
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.inference.health import Health
from heliograph.inference.serving import Serving
from heliograph.inference.serving_queue import PendingRequest
from heliograph.inference.tuning import read_labelled, tune
from tests.patience import HANGS

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(centre, 0.3, (20, 4)) for centre in (-2, 0, 2)])
Y = np.repeat([0, 1, 2], 20)
NAMES = np.array(["low", "middle", "high"])
FOUR = np.arange(4, dtype=np.float32)


def asked(model: Any, x: Any, rule: str = "never", **options: Any) -> Any:
    with JointInference("flowers", edge=model, rule=rule, **options) as service:
        return service.infer(x)


def refused(model: Any, x: Any, rule: str = "never", **options: Any) -> str:
    with pytest.raises(Refused) as error:
        asked(model, x, rule, **options)
    assert error.value.expected
    return str(error.value)


def sklearn(name: str) -> Any:
    module, _, kind = name.rpartition(".")
    return getattr(pytest.importorskip(f"sklearn.{module}"), kind)


def logistic(y: Any) -> Any:
    return sklearn("linear_model.LogisticRegression")().fit(X[: len(y)], y)


@pytest.mark.parametrize("labels", [Y + 1, NAMES[Y], np.where(Y[:40] == 0, -1, 1), Y[:40] == 1],
                         ids=["from 1", "names", "signs", "booleans"])  # fmt: skip
def test_a_classifiers_own_labels_are_the_answers_on_the_edge_and_in_the_cloud(labels: Any) -> None:
    model = logistic(labels)
    for x in X[[0, 30]]:
        said = model.predict(x[np.newaxis])[0]
        for given in (asked(model, x).result, BigModel("flowers", model).infer(x)[0]):
            assert given == said
            assert type(given) is type(said.item())  # a plain value, which JSON carries
    uncertain = JointInference("flowers", edge=lambda batch: [[0.5, 0.5]] * len(batch), rule="always",
                               cloud=BigModel("flowers", model))  # fmt: skip
    with uncertain as service:
        answer = service.infer(X[0], deadline=HANGS)
    assert (answer.result, answer.by) == (model.predict(X[:1])[0], "cloud")


def test_classifiers_that_decide_by_other_than_the_highest_probability_answer_as_they_predict() -> None:
    for model in (
        sklearn("linear_model.SGDClassifier")(random_state=0).fit(X, NAMES[Y]),
        sklearn("svm.LinearSVC")().fit(X[:40], NAMES[Y[:40]]),
        sklearn("svm.SVC")(decision_function_shape="ovo").fit(X, NAMES[Y]),
        sklearn("ensemble.IsolationForest")(n_estimators=5, random_state=0).fit(X),
    ):
        for x in X[[0, 25, 59]]:
            answer = asked(model, x)
            assert answer.result == model.predict(x[np.newaxis])[0]
            assert sum(answer.scores) == pytest.approx(1)


def test_classes_name_the_scores_of_a_model_that_knows_no_labels() -> None:
    def model(batch: Any) -> Any:
        return np.array([[0.1, 0.7, 0.2]] * len(batch))

    assert asked(model, FOUR, classes=["a", "b", "c"]).result == "b"
    assert asked(model, FOUR, classes=np.array([-1, 0, 1])).result == 0
    assert asked(lambda batch: [[0.1, 0.9]] * len(batch), FOUR).result == 1
    assert "expected 3 labels, one for each score, got 2 labels" in refused(model, FOUR, classes=["a", "b"])
    assert "a list of labels" in refused(model, FOUR, classes="abc")
    assert asked(logistic(Y), X[0], classes=["l", "m", "h"]).result == "l"


def test_one_number_is_a_probability_a_logit_or_a_value_as_the_user_says() -> None:
    def model(batch: Any) -> Any:
        return np.asarray(batch)[:, :1]

    sure_negative = asked(model, [0.02], "threshold", value=0.8, outputs="probabilities")
    assert (sure_negative.result, sure_negative.degraded) == (0, False)
    np.testing.assert_allclose(sure_negative.scores, [0.98, 0.02], atol=1e-6)
    assert asked(model, [3.0], outputs="logits", classes=["no", "yes"]).result == "yes"
    value = asked(model, [3.0], outputs="values")
    assert (value.result, value.scores) == (3.0, None)
    assert asked(model, [3.0], after=lambda row: row[0] > 1).result
    told = refused(model, [0.5])
    assert "outputs='probabilities'" in told and "outputs='logits'" in told and "outputs='values'" in told
    assert "outputs='logits'" in refused(model, [3.0], outputs="probabilities")
    assert "probabilities, logits, values" in refused(model, [3.0], outputs="sigmoid")


def test_a_rule_that_reads_logits_gets_them_and_not_the_probabilities_that_the_answer_has() -> None:
    def model(batch: Any) -> Any:
        return np.array([[9.0, 1.0, 0.0]] * len(batch))

    answer = asked(model, FOUR, "energy", value=5.0, outputs="logits")
    assert not answer.degraded  # the energy of probabilities of three classes is below 2.1
    assert sum(answer.scores) == pytest.approx(1)
    assert asked(model, FOUR, "energy", value=10.0, outputs="logits").degraded


def test_a_regression_answers_a_value_and_a_rule_that_needs_classes_says_so() -> None:
    model = sklearn("linear_model.LinearRegression")().fit(X, X[:, 0] * 2)
    answer = asked(model, X[0])
    assert answer.result == pytest.approx(X[0, 0] * 2)
    assert answer.scores is None
    told = refused(model, X[0], "threshold")
    assert "which the rule threshold reads" in told and "never, always or random" in told
    two = sklearn("linear_model.LinearRegression")().fit(X, X[:, :2])
    assert asked(two, X[0]).result == pytest.approx(X[0, :2])
    with JointInference("flowers", edge=model, rule="always", cloud=model) as service:
        assert service.infer(X[0], deadline=HANGS).by == "cloud"
    assert service.counts.compared == 0  # values are hardly ever equal


def test_a_function_that_returns_labels_gives_them_and_no_scores() -> None:
    model = logistic(NAMES[Y])
    answer = asked(lambda batch: model.predict(batch), X[0])
    assert (answer.result, answer.scores) == ("low", None)
    assert "a model that gives labels" in refused(lambda batch: ["a"] * len(batch), FOUR, "margin")


def test_several_labels_at_once_and_odd_outputs_name_the_hook() -> None:
    several = sklearn("multiclass.OneVsRestClassifier")(sklearn("linear_model.LogisticRegression")())
    several.fit(X, np.stack([Y > 0, Y > 1], 1).astype(int))
    assert "after=" in refused(several, X[0])
    assert list(asked(several, X[59], after=lambda row: row > 0.5).result) == [True, True]

    each_its_own = sklearn("multioutput.MultiOutputClassifier")(sklearn("svm.LinearSVC")())
    assert asked(each_its_own.fit(X, np.stack([Y > 0, Y > 1], 1).astype(int)), X[59]).result == [1, 1]

    def mapping(batch: Any) -> Any:
        return {"loss": 0.1, "logits": np.array([[0.2, 0.8]] * len(batch))}

    assert "scores=lambda output: output['logits']" in refused(mapping, FOUR)
    assert asked(mapping, FOUR, scores=lambda output: output["logits"]).result == 1
    assert "scores=lambda output: output[0]" in refused(lambda batch: (np.zeros((1, 2)), 3), FOUR)


def test_a_pipeline_of_texts_takes_a_text_and_one_of_mappings_a_mapping() -> None:
    pipeline = pytest.importorskip("sklearn.pipeline").make_pipeline
    texts = pipeline(sklearn("feature_extraction.text.TfidfVectorizer")(), sklearn("linear_model.LogisticRegression")())
    texts.fit(["good film", "bad film"] * 5, ["yes", "no"] * 5)
    assert asked(texts, "good film").result == "yes"
    rows = pipeline(sklearn("feature_extraction.DictVectorizer")(), sklearn("linear_model.LogisticRegression")())
    rows.fit([{"colour": "red"}, {"colour": "blue"}] * 5, [1, 2] * 5)
    assert asked(rows, {"colour": "blue"}).result == 2
    with JointInference("films", edge=texts, rule="always", cloud=texts) as service:  # also on the wire
        assert service.infer("bad film", deadline=HANGS).result == "no"
    assert "4 numbers" in refused(logistic(Y), "good film")
    assert "4 numbers" in refused(logistic(Y), {"a": 1.0})


def test_a_row_of_a_table_is_a_series_a_frame_or_a_mapping_by_the_columns_names(framework: Any) -> None:
    pd = framework("pandas")
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = sklearn("linear_model.LogisticRegression")().fit(frame, NAMES[Y])
    row = frame.iloc[-1]
    mixed = dict(reversed(list(row.items())))
    for given in (row, frame.iloc[[-1]], dict(row), mixed, row.to_numpy(), list(row)):
        assert asked(model, given).result == "high"
    with JointInference("rows", edge=model, rule="always", cloud=model) as service:
        assert service.infer(row, deadline=HANGS).result == "high"
    told = refused(model, {"a": 1.0, "b": 2.0, "c": 3.0, "e": 4.0})
    assert "the columns a, b, c, d" in told and "no d" in told and "e besides" in told
    assert "one sample" in refused(model, frame)


def test_a_sample_with_nan_is_refused_unless_an_estimator_takes_it() -> None:
    sample = np.array([np.nan, 1.0, 2.0, 3.0])
    told = refused(lambda batch: [[0.5, 0.5]] * len(batch), sample)
    assert "finite numbers, got NaN" in told and "before=" in told
    trees = sklearn("ensemble.HistGradientBoostingClassifier")(max_iter=2).fit(X, NAMES[Y])
    assert asked(trees, sample).result in NAMES
    assert "finite scores" in refused(lambda batch: np.full((len(batch), 2), np.nan), FOUR)


def test_torch_samples_become_the_models_type_whatever_they_were(framework: Any) -> None:
    torch = framework("torch")
    torch.manual_seed(0)
    for model in (torch.nn.Linear(4, 3), torch.nn.Linear(4, 3).double(), torch.nn.Linear(4, 3).bfloat16()):
        for x in (FOUR.astype(np.float64), [0.0, 1.0, 2.0, 3.0], [0, 1, 2, 3], torch.arange(4.0),
                  torch.arange(4.0).requires_grad_(), FOUR.astype(np.uint8)):  # fmt: skip
            with torch.no_grad():
                said = int(model(torch.arange(4.0).to(model.weight.dtype)).argmax())
            assert asked(model, x).result == said
    convolution = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.LazyLinear(3))
    image = np.zeros((3, 8, 8), np.uint8)
    assert asked(convolution, image).result in range(3)
    assert "without a batch axis" in refused(convolution, image[np.newaxis])
    assert "without a batch axis" in refused(torch.nn.Linear(4, 3), FOUR[np.newaxis])
    words = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Flatten(), torch.nn.Linear(8, 2))
    assert asked(words, [1.0, 5.0]).result in (0, 1)  # as JSON brings them
    assert "whole numbers" in refused(words, [1.5, 5.0])
    assert "NaN" in refused(torch.nn.Linear(4, 3), np.full(4, np.nan))
    assert "before=" in refused(torch.nn.Linear(4, 3), "a text")


def test_torch_ends_tell_a_probability_and_a_logit_or_a_regression_is_asked_for(framework: Any) -> None:
    torch = framework("torch")

    class Functional(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def forward(self, x: Any) -> Any:
            return torch.sigmoid(self.layer(x)).squeeze(1)

    for model in (torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Sigmoid()), Functional()):
        with torch.no_grad():
            p = float(model(torch.from_numpy(FOUR[np.newaxis])).reshape(-1)[0])
        answer = asked(model, FOUR)
        assert answer.result == int(p > 0.5)
        np.testing.assert_allclose(answer.scores, [1 - p, p], atol=1e-6)
    assert "outputs='logits'" in refused(torch.nn.Linear(4, 1), FOUR)
    several = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Sigmoid())
    assert "several classes at once" in refused(several, FOUR)
    assert asked(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LogSoftmax(1)), FOUR).result in range(3)


def test_keras_activations_and_losses_tell_what_the_numbers_are(framework: Any) -> None:
    keras = framework("keras")

    def model(units: int, activation: str | None, **compiled: Any) -> Any:
        made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, activation=activation)])
        if compiled:
            made.compile("sgd", **compiled)
        return made

    sigmoid = model(1, "sigmoid")
    p = float(np.asarray(sigmoid(FOUR[np.newaxis]))[0, 0])
    assert asked(sigmoid, FOUR.astype(np.float64)).result == int(p > 0.5)
    logit = model(1, None, loss=keras.losses.BinaryCrossentropy(from_logits=True))
    assert sum(asked(logit, FOUR).scores) == pytest.approx(1)
    for loss in ("mse", keras.losses.MeanAbsoluteError()):
        assert asked(model(1, None, loss=loss), FOUR).scores is None
    assert "outputs='values'" in refused(model(1, None), FOUR)
    assert asked(model(3, "softmax"), [0, 1, 2, 3], classes=NAMES).result in NAMES


async def test_a_device_gets_labels_of_numpys_types_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, Any] = {}
    came = asyncio.Event()

    async def send(some: list[tuple[PendingRequest, bytes]]) -> None:
        for request, body in some:
            answers[request.reply_to] = json.loads(body)
            came.set()

    serving = Serving("flowers", InferenceSpec(rule="never"), asyncio.get_running_loop(), World(), send, None, print)
    monkeypatch.setitem(session.inference, "edge", serving)
    service = JointInference("flowers", edge=logistic(NAMES[Y]), rule="never")
    assert not serving.health.ready
    running = asyncio.create_task(asyncio.to_thread(service.serve))

    async def ask(tree: dict[str, Any]) -> Any:
        came.clear()
        body = json.dumps(tree).encode()
        serving.receive(Message("inference/flowers/request", body), parse(body, "t"), str(len(answers)))
        async with asyncio.timeout(HANGS):
            await came.wait()
        return answers[str(len(answers) - 1)]

    first = await ask({"input": X[59].tolist()})
    assert (first["result"], first["by"]) == ("high", "edge")
    assert len(first["scores"]) == 3
    wrong = (await ask({"input": {"text": "high"}}))["error"]
    assert (wrong["code"], wrong["topic"], wrong["field"]) == ("invalid", "inference/flowers/request", "input")
    assert serving.health.ready and not serving.health.trouble
    bad = (await ask({"input": [1.0]}))["error"]  # the model's own error
    assert bad["code"] == "model-failed"
    assert "the model fails: ValueError" in serving.health.trouble
    await ask({"input": X[0].tolist()})
    assert not serving.health.trouble
    serving.enqueue(None)
    await running


def test_a_worker_is_ready_once_its_example_passes_or_a_request_is_answered() -> None:
    for example, ready in ((X[0], True), ([1.0], False)):
        warned: list[str] = []
        health = Health("flowers", warned.append)
        health.check(lambda example=example: BigModel("flowers", logistic(Y)).infer(example))
        assert health.ready is ready
        assert bool(health.trouble) is bool(warned) is not ready
        health.model_worked()
        assert health.ready and not health.trouble
        health.weights_failed("digest", ValueError("another shape"))
        assert not health.ready  # it has never had the service's weights
        health.weights_set()
        assert health.ready and not health.trouble
    with pytest.raises(ValueError, match="features"):
        JointInference("flowers", edge=logistic(Y), example=[1.0])


def test_tuning_reads_a_sets_classes_and_one_column_of_probabilities(tmp_path: Path) -> None:
    p = np.linspace(0, 1, 50).astype(np.float32)
    labels = np.where(p > 0.45, "yes", "no")
    common = {"labels": labels, "cloud_labels": labels, "classes": np.array(["no", "yes"])}
    np.savez(tmp_path / "set.npz", edge_scores=p[:, np.newaxis], **common)
    tuned = tune(read_labelled(tmp_path / "set.npz"), "threshold", {}, target_accuracy=1.0)
    assert tuned.choice.reached
    signs = np.where(p > 0.5, 1, -1)
    np.savez(tmp_path / "signs.npz", edge_scores=p, labels=signs, cloud_labels=signs)
    with pytest.raises(Refused, match="write the array classes"):
        read_labelled(tmp_path / "signs.npz")
    np.savez(tmp_path / "strange.npz", edge_scores=p, **{**common, "classes": np.array(["no", "maybe"])})
    with pytest.raises(Refused, match="expected one of no, maybe, got yes"):
        read_labelled(tmp_path / "strange.npz")
    np.savez(tmp_path / "values.npz", edge_scores=p * 40, **common)
    with pytest.raises(Refused, match="A regression has no classes"):
        read_labelled(tmp_path / "values.npz")
