"""Figures computed from samples, and the order of runs."""

from __future__ import annotations

import pytest

from benchmarks.declaration import Benchmark, Metric, Samples, Unavailable
from benchmarks.figure import Figure, figures, ratios
from benchmarks.runner import Failed, run, turns


def nothing() -> Samples:
    raise AssertionError("this benchmark must not be measured")


def bench(name: str, *metrics: Metric, group: str = "group", repeats: int = 2, by: str = "Heliograph") -> Benchmark:
    return Benchmark(name, group, nothing, metrics or (Metric("lap", "a lap", "ms", 10),), repeats, by=by)


def test_each_sample_counts_or_one_number_of_each_run() -> None:
    runs: list[Samples] = [{"lap": [1, 2, 9]}, {"lap": [3, 4, 5]}]
    each, middle, tail, most = figures(
        bench("b", Metric("lap", "", "ms"), Metric("lap", "", "ms", statistic="p50", name="p50"),
              Metric("lap", "", "ms", statistic="p99", name="p99"),
              Metric("lap", "", "ms", statistic="max", name="max")), runs,
    )  # fmt: skip
    assert (each.value, each.low, each.high, each.count) == (3.5, 1, 9, 6)
    assert (middle.value, middle.low, middle.high, middle.count) == (3, 2, 4, 2)
    assert tail.value == most.value == 7
    assert [each.id for each in (each, middle)] == ["b/lap", "b/p50"]


@pytest.mark.parametrize("samples", [{}, {"lap": []}, {"other": [1]}, {"lap": [float("nan")]}, {"lap": [float("inf")]}])
def test_a_measurement_without_finite_samples_is_refused(samples: Samples) -> None:
    with pytest.raises(ValueError, match="lap"):
        figures(bench("b"), [samples])


@pytest.mark.parametrize(("better", "value", "missed"), [
    ("lower", 9, False), ("lower", 10, False), ("lower", 11, True), ("higher", 9, True), ("higher", 10, False),
])  # fmt: skip
def test_a_target_is_a_maximum_or_a_minimum(better: str, value: float, missed: bool) -> None:
    metric = Metric("lap", "", "ms", 10, better)  # type: ignore[arg-type]
    assert Figure("b", metric, value, value, value, 1).missed is missed


def test_a_peers_ratio_to_ours_is_computed_turn_by_turn() -> None:
    metric = Metric("lap", "a lap", "ms", question="lap?", paired=True)
    ours, peer = bench("ours", metric), bench("peer", metric, by="Peer")
    [ratio] = ratios([ours, peer], {"ours": [{"lap": [1]}, {"lap": [2]}, {"lap": [99]}],
                                    "peer": [{"lap": [10]}, {"lap": [40]}]})  # fmt: skip
    assert (ratio.value, ratio.low, ratio.high, ratio.count) == (15, 10, 20, 2)
    assert ratio.id == "ours/lap of peer"
    assert ratio.metric.better == "higher"
    assert ratios([ours, peer], {"ours": [{"lap": [1]}]}) == []


def test_the_benchmarks_of_a_group_take_turns() -> None:
    a, b, c = bench("a", repeats=2), bench("b", group="other", repeats=1), bench("c", repeats=3)
    order = [(each.name, number) for each, number in turns([a, b, c])]
    assert order == [("a", 1), ("c", 1), ("a", 2), ("c", 2), ("c", 3), ("b", 1)]
    assert len(turns([a, b, c], repeats=5)) == 15


def test_a_failed_benchmark_does_not_stop_the_others() -> None:
    called: list[str] = []

    def measure(each: Benchmark) -> Samples:
        called.append(each.name)
        if each.name in ("bad", "peer"):
            raise Failed("no luck")
        return {"lap": [1]} if each.name == "good" else {"lap": [float("nan")]}

    def refuse() -> None:
        raise Unavailable("cannot be installed")

    absent = Benchmark("absent", "group", nothing, (), by="Absent", prepare=refuse)
    chosen = [bench("bad"), bench("peer", by="Peer"), absent, bench("nan"), bench("good")]
    outcome = run(chosen, measure, lambda each, number: None)
    assert [each.id for each in outcome.figures] == ["good/lap"]
    assert outcome.failed.keys() == {"bad", "nan"}
    assert outcome.skipped == {"absent": "cannot be installed", "peer": "no luck"}
    assert sorted(called) == ["bad", "good", "good", "nan", "peer"]  # a failed benchmark is not run again
