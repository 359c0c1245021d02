"""IncrementalLearning: rounds outside a job and in one, with a session in the worker's place."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import heliograph
from heliograph import IncrementalLearning, session
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.core.errors import Refused
from heliograph.gate import Gate, Outcome
from heliograph.incremental.learning import EWC, ICaRL, LwF, Replay
from heliograph.session import LearnWork
from tests.lib.incremental.learn_session import FakeLearnSession, file_of, shard
from tests.lib.incremental.numpy_network import Network, digits


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLearnSession]:
    one = FakeLearnSession()
    monkeypatch.setattr(session, "learning", one)
    yield one


def of_classes(*classes: int) -> tuple[Any, Any]:
    x, y = digits()
    chosen = np.isin(y, classes)
    return x[chosen], y[chosen]


def learning(network: Network, strategy: Any, **more: Any) -> IncrementalLearning:
    return IncrementalLearning(network.weights, predict=network.scores, features=network.features,
                               gradients=network.gradients, head=("w2", "b2"), strategy=strategy, **more)  # fmt: skip


@pytest.mark.parametrize(("strategy", "kept"), [
    (Replay(120), True), (ICaRL(120), True), ([Replay(120), LwF()], True), ([Replay(120), EWC(10.0)], True),
    (None, False), ([EWC(10.0), LwF()], False),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:training on the new classes")
def test_old_classes_are_kept_by_replay_alone(strategy: Any, kept: bool) -> None:
    network = Network(classes=2)
    il = learning(network, strategy, force=True)
    for classes in ((0, 1), (2, 3), (4, 5)):
        for this in il.rounds(*of_classes(*classes)):
            network.train(this)
    assert network.weights["w2"].shape == (32, 6) and network.weights["b2"].shape == (6,)
    x, y = of_classes(0, 1)
    assert ((il.predict(x) == y).mean() > 0.8) == kept
    x, y = of_classes(4, 5)
    assert (il.predict(x) == y).mean() > 0.8


@pytest.mark.parametrize("strategy", [EWC(), LwF(), [EWC(), LwF()]])
def test_ewc_and_lwf_alone_refuse_new_classes(strategy: Any) -> None:
    network = Network(classes=6)
    il = learning(network, strategy)
    for this in il.rounds(*of_classes(0, 1)):
        network.train(this, steps=5)
    for _ in il.rounds(*of_classes(0)):  # no new class
        pass
    before = {name: each.copy() for name, each in network.weights.items()}
    with pytest.raises(Refused, match=r"EWC|LwF") as refused:
        list(il.rounds(*of_classes(2)))
    assert refused.value.code == "forgets-classes"
    assert all(np.array_equal(network.weights[name], before[name]) for name in before)


def test_ewc_keeps_what_a_model_does_where_its_samples_change() -> None:
    x, y = of_classes(0, 1)
    left = {}
    for strategy in (None, EWC(2000.0, samples=60)):
        network = Network(classes=2)
        il = learning(network, strategy)
        for given in (x, x[:, ::-1].copy()):
            for this in il.rounds(given, y if given is x else 1 - y):
                network.train(this, steps=60, rate=0.02)
        left[type(strategy).__name__] = float((il.predict(x) == y).mean())
    assert left["EWC"] > left["NoneType"]


def test_without_replay_a_new_class_is_warned_of() -> None:
    network = Network(classes=4)
    il = learning(network, None)
    list(il.rounds(*of_classes(0, 1)))
    with pytest.warns(UserWarning, match="new classes 2, 3 without replay"):
        list(il.rounds(*of_classes(2, 3)))


def test_a_round_says_what_it_has() -> None:
    network = Network(classes=2)
    il = learning(network, Replay(40), classes=["zero", "one", "two"], evaluate=lambda: 0.5)
    x, y = of_classes(0, 1)
    for this in il.rounds(x, y):
        assert (this.number, this.local, this.new_classes) == (1, True, [0, 1])
        assert {each.tobytes() for each in this.x} == {each.tobytes() for each in x}
        this.report(loss=0.25)
    for this in il.rounds(of_classes(2)[0], ["two"] * len(of_classes(2)[0])):
        assert (this.number, this.new_classes, this.classes) == (2, [2], ["zero", "one", "two"])
        counts = np.unique(this.y, return_counts=True)
        assert counts[0].tolist() == [0, 1, 2] and len(set(counts[1].tolist())) == 1
        assert set(this.new.y.tolist()) == {2}
    assert il.history == [{"loss": 0.25, "accuracy": 0.5}, {"accuracy": 0.5}]
    assert il.memory.seen == (0, 1, 2)


def test_batches_go_on_as_long_as_steps_are_asked() -> None:
    network = Network()
    x, y = of_classes(0, 1)
    for this in learning(network, Replay(40)).rounds(x, y):
        sizes = [len(batch) for batch in this.batches(50)]
        assert sum(sizes) == len(this.y) and set(sizes[:-1]) == {50}
        assert [len(batch) for batch in this.batches(50, steps=40)] == [50] * 40
        assert sum(map(len, this.batches(10_000, steps=2))) == 2 * len(this.y)
        for size, steps in ((0, None), (1.5, None), (8, 0), (True, 1)):
            with pytest.raises(Refused, match="1 or more"):
                this.batches(size, steps)  # type: ignore[arg-type]


def test_a_training_that_diverges_is_no_candidate(job: FakeLearnSession, tmp_path: Path) -> None:
    network = Network(classes=2)
    job.works = [LearnWork("train", "digits", 1, shards=[shard(*of_classes(0, 1), tmp_path)])]
    with pytest.raises(Refused) as refused:
        for _ in learning(network, Replay(40)).rounds():
            network.weights["w1"][:] = np.nan
    assert refused.value.code == "not-finite" and refused.value.field == "w1" and not job.sent


@pytest.mark.parametrize(("x", "y", "code"), [
    (None, None, "no-samples"), (np.zeros((0, 64)), np.zeros(0), "no-samples"),
    (np.zeros((2, 64)), None, "bad-argument"), (np.zeros((2, 64)), [0, -1], "bad-label"),
])  # fmt: skip
def test_outside_a_job_samples_are_needed(x: Any, y: Any, code: str) -> None:
    with pytest.raises(Refused) as refused:
        list(learning(Network(), Replay()).rounds(x, y))
    assert refused.value.code == code


def test_a_job_trains_and_goes_on_after_a_kill(job: FakeLearnSession, tmp_path: Path) -> None:
    names = [str(each) for each in range(4)]

    def round_of(number: int, *classes: int, **more: Any) -> LearnWork:
        new = [shard(*of_classes(*classes), tmp_path)]
        return LearnWork("train", "digits", number, shards=new, classes=names[: max(classes) + 1], **more)

    def run(*works: LearnWork) -> tuple[Any, ...]:
        job.works = list(works)
        network = Network(classes=2)
        for this in learning(network, Replay(60)).rounds():
            assert this.parameters == {"rate": 0.1}
            network.train(this)
            this.report(loss=float(this.number))
        return tuple(job.sent[-len(works) :])

    first, _ = run(round_of(1, 0, 1), round_of(2, 2, 3, weights=None))
    assert first.num_samples == len(of_classes(0, 1)[0]) and first.metrics == {"loss": 1.0}
    assert first.classes == ["0", "1"] and first.arrays["w2"].shape == (32, 2)
    assert first.memory["x"].shape == (60, 64) and first.memory["y"].dtype == np.int32
    # a new process gets the same from the files alone, twice the same
    again = [run(round_of(2, 2, 3, weights=file_of(first.arrays), memory=file_of(first.memory)))[0] for _ in range(2)]
    for each in again:
        assert each.classes == names and each.arrays["w2"].shape == (32, 4)
        assert sorted(np.unique(each.memory["y"]).tolist()) == [0, 1, 2, 3]
        assert all(np.array_equal(each.arrays[name], again[0].arrays[name]) for name in each.arrays)
        assert each.memory["id"].tobytes() == again[0].memory["id"].tobytes()


def test_a_job_compares_models_of_different_heads(job: FakeLearnSession, tmp_path: Path) -> None:
    champion, candidate = Network(classes=2), Network(classes=2)
    for network, classes in ((champion, (0, 1)), (candidate, (0, 1, 2))):
        session.learning = None
        for this in learning(network, Replay()).rounds(*of_classes(*classes)):
            network.train(this)
    session.learning = job
    x, y = of_classes(0, 1, 2)
    names = ["zero", "one", "two"]
    job.works = [LearnWork("evaluate", "digits", 1, file_of(candidate.weights), file_of(champion.weights),
                           [shard(x, y, tmp_path)], classes=names)]  # fmt: skip
    script = Network(classes=2, seed=7)
    list(learning(script, Replay(), evaluate=lambda: float(script.weights["w2"].shape[1])).rounds())
    ids, labels, new, old = job.sent[0].answers
    assert labels == [names[each] for each in y] and new == [names[each] for each in candidate.scores(x).argmax(1)]
    assert old == [names[each] for each in champion.scores(x).argmax(1)] and "two" not in old
    assert job.sent[0].metrics == {"accuracy": 3.0}, "measured on the candidate"
    assert job.sent[0].champion_metrics == {"accuracy": 2.0}, "and on the champion: only so a metric can fall"
    verdict = Gate(least_support=50, least_class_support=10).judge(map(Outcome, ids, labels, old, new))
    assert verdict.passes


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("result", "sent"), [
    (float("nan"), {"accuracy": float("nan")}), ({"loss": np.float32("inf"), "f1": 0.5}, {"loss": np.inf, "f1": 0.5}),
])  # fmt: skip
def test_the_gate_hears_of_a_metric_that_is_no_number(job: FakeLearnSession, result: Any, sent: Any) -> None:
    job.works = [LearnWork("evaluate", "digits", 1, file_of(Network(classes=2).weights), classes=["a", "b"])]
    list(learning(Network(classes=2), Replay(), evaluate=lambda: result).rounds())
    assert job.sent[0].metrics == pytest.approx(sent, nan_ok=True)


def test_a_job_evaluates_without_a_champion_and_without_samples(job: FakeLearnSession) -> None:
    network = Network(classes=2)
    job.works = [LearnWork("evaluate", "digits", 1, file_of(network.weights), classes=["a", "b"])]
    list(learning(Network(classes=2), Replay()).rounds())
    assert job.sent[0].answers == ([], [], [], None) and job.sent[0].metrics == {}


def test_the_seed_is_learned_by_the_first_model_and_replayed_by_the_next(job: FakeLearnSession, tmp_path: Path) -> None:
    seed = of_classes(0, 1)
    new = [shard(*of_classes(2), tmp_path)]
    for weights in (None, file_of(Network(classes=2).weights)):
        job.works = [LearnWork("train", "digits", 1, weights, shards=new, classes=["0", "1", "2"])]
        for this in learning(Network(classes=2), Replay(60)).rounds(*seed):
            assert set(this.y.tolist()) == {0, 1, 2}
            assert set(this.new.y.tolist()) == ({0, 1, 2} if weights is None else {2})
        assert job.sent[-1].num_samples == len(of_classes(2)[0]) + (len(seed[0]) if weights is None else 0)
        assert set(job.sent[-1].memory["y"].tolist()) == {0, 1, 2}


def test_a_model_without_memory_and_seed_is_warned_of(job: FakeLearnSession, tmp_path: Path) -> None:
    job.works = [LearnWork("train", "digits", 1, file_of(Network(classes=2).weights),
                           shards=[shard(*of_classes(2), tmp_path)], classes=["0", "1", "2"])]  # fmt: skip
    with pytest.warns(UserWarning, match="no exemplars of the classes that the model knows"):
        list(learning(Network(classes=2), Replay(60)).rounds())


def test_a_sample_that_is_labelled_anew_is_learned_anew(job: FakeLearnSession, tmp_path: Path) -> None:
    x, y = of_classes(0, 1)
    for labels in (y, 1 - y):
        job.works = [LearnWork("train", "digits", 1, shards=[shard(x, labels, tmp_path)],
                               memory=file_of(job.sent[-1].memory) if job.sent else None)]  # fmt: skip
        for this in learning(Network(classes=2), Replay(1000)).rounds():
            assert len(this.new) == len(x) and sorted(set(this.y.tolist())) == [0, 1]
    kept = {bytes(each): int(label) for each, label in zip(job.sent[-1].memory["id"], job.sent[-1].memory["y"],
                                                           strict=True)}  # fmt: skip
    assert len(kept) == len(x) and sorted(kept.values()) == sorted((1 - y).tolist())


def test_classes_of_a_job_keep_their_index(job: FakeLearnSession, tmp_path: Path) -> None:
    job.works = [LearnWork("train", "digits", 1, shards=[shard(*of_classes(0), tmp_path)], classes=["one", "zero"])]
    with pytest.raises(Refused, match="an index has its class for ever") as refused:
        list(learning(Network(), Replay(), classes=["zero", "one"]).rounds())
    assert refused.value.code == "bad-classes" and not job.sent


@pytest.mark.parametrize("weights", [
    {"w1": np.zeros((64, 32), np.float32)},
    {"w1": np.zeros((3, 3), np.float32), "b1": np.zeros(32, np.float32), "w2": np.zeros((32, 5), np.float32),
     "b2": np.zeros(5, np.float32)},
])  # fmt: skip
def test_weights_of_another_model_are_refused(job: FakeLearnSession, tmp_path: Path, weights: Any) -> None:
    job.works = [LearnWork("train", "digits", 1, file_of(weights), shards=[shard(*of_classes(0, 1), tmp_path)])]
    with pytest.raises(Refused) as refused:
        list(learning(Network(), Replay()).rounds())
    assert refused.value.code == "bad-weights" and not job.sent


def test_a_memory_that_is_none_is_refused(job: FakeLearnSession, tmp_path: Path) -> None:
    job.works = [LearnWork("train", "digits", 1, shards=[shard(*of_classes(0, 1), tmp_path)],
                           memory=TensorFile(dumps({"w": np.zeros(2)}), "memory"))]  # fmt: skip
    with pytest.raises(Refused, match="memory") as refused:
        list(learning(Network(), Replay()).rounds())
    assert refused.value.code == "bad-shard" and not job.sent


def test_a_body_that_breaks_sends_nothing(job: FakeLearnSession, tmp_path: Path) -> None:
    job.works = [LearnWork("train", "digits", 1, shards=[shard(*of_classes(0, 1), tmp_path)])]
    for _ in learning(Network(), Replay()).rounds():
        break
    assert not job.sent


def test_a_script_in_a_job_knows_its_data_set_and_parameters(job: FakeLearnSession) -> None:
    assert heliograph.dataset() == Path("seed.npz") and heliograph.parameters() == {"rate": 0.1}


@pytest.mark.parametrize(("make", "field"), [
    (lambda: IncrementalLearning(object()), "model"),
    (lambda: IncrementalLearning({"w": np.zeros((2, 2))}), "predict"),
    (lambda: IncrementalLearning({"w": np.zeros(2)}, predict=len), "head"),
    (lambda: IncrementalLearning({"w": np.zeros((2, 2))}, predict=len, head="v"), "head"),
    (lambda: IncrementalLearning({"w": np.zeros((2, 2)), "b": np.zeros(3)}, predict=len, head=("w", "b")), "head"),
    (lambda: IncrementalLearning({"w": np.zeros((2, 2))}, predict=len, classes=["a", "a"]), "classes"),
    (lambda: IncrementalLearning({"w": np.zeros((2, 2))}, predict=len, strategy="replay"), "strategy"),
])  # fmt: skip
def test_a_wrong_argument_is_named(make: Any, field: str) -> None:
    with pytest.raises(Refused) as refused:
        make()
    assert refused.value.field == field


def test_a_model_of_one_output_is_told_to_have_two() -> None:
    with pytest.raises(Refused, match="2 or more"):
        list(learning(Network(classes=1), Replay()).rounds(*of_classes(0, 1)))


@pytest.mark.parametrize("predict", [lambda x: x[:, 20:21], lambda x: x[:, 20], lambda x: x[:3, 0], lambda x: x[None]])
def test_a_prediction_that_is_neither_scores_nor_classes_is_refused(predict: Any) -> None:
    il = IncrementalLearning({"w": np.zeros((64, 2))}, predict=predict)
    with pytest.raises(Refused, match="a class or a row of scores"):
        il.predict(digits()[0] / 3)


def test_the_loop_of_another_kind_of_job_is_refused(job: FakeLearnSession, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"w": np.zeros((64, 2), np.float32)}
    with pytest.raises(Refused, match="IncrementalLearning") as refused:
        heliograph.FederatedLearning(model, num_samples=1).rounds()
    assert refused.value.code == "wrong-loop"
    monkeypatch.setattr(session, "learning", None)
    monkeypatch.setattr(session, "current", job)
    with pytest.raises(Refused, match="FederatedLearning") as refused:
        IncrementalLearning(model, predict=lambda x: x @ model["w"]).rounds()
    assert refused.value.code == "wrong-loop"


def test_what_a_strategy_lacks_is_named() -> None:
    network = Network(classes=2)
    for strategy, lacks in ((ICaRL(), "features"), (EWC(), "gradients")):
        il = IncrementalLearning(network.weights, predict=network.scores, strategy=strategy)
        with pytest.raises(Refused, match=lacks):
            list(il.rounds(*of_classes(0, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        il = IncrementalLearning(network.weights, predict=network.scores)
        for _ in range(2):
            list(il.rounds(*of_classes(0, 1)))
