"""The strategies by which participants are selected, each beside a short reference of its paper's rule."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.payloads import NodeState
from heliograph.bus.contract.resources import Participants, ParticipantSelection
from heliograph.coordinator.features.federated.participation.candidates import Candidate, Choice, weighted_sample
from heliograph.coordinator.features.federated.participation.memory import EdgeMemory
from heliograph.coordinator.features.federated.participation.oort import OortParameters, utilities_of
from heliograph.coordinator.features.federated.participation.strategies import STRATEGIES, number_of, selected
from heliograph.core.world import seeded

LOSSES = st.none() | st.floats(-1, 100, allow_nan=False)


@st.composite
def fleets(draw: st.DrawFn) -> list[Candidate]:
    found = []
    for number in range(draw(st.integers(1, 12))):
        counted = draw(st.integers(0, 9))
        told: tuple[Any, ...] = ()
        if counted:
            told = draw(st.integers(0, 50)), draw(LOSSES), draw(LOSSES), draw(st.none() | st.floats(0, 100))
        node = draw(st.none() | st.builds(NodeState, free_memory=st.none() | st.integers(0, 1 << 31),
                                          free_cores=st.none() | st.floats(0, 8), charging=st.booleans(),
                                          battery=st.none() | st.floats(0, 100)))  # fmt: skip
        memory = EdgeMemory(draw(st.integers(counted, 9)), counted, *told)
        found.append(Candidate(f"edge-{number}", draw(st.integers(0, 50)), memory, node))
    return found


def _select(fleet: Sequence[Candidate], number: int, round: int, seed: str, **selection: Any) -> Choice:
    given = ParticipantSelection.model_validate(selection)
    return selected(given, fleet, min(number, len(fleet)), round, seeded(seed))


@given(fleets(), st.integers(1, 12), st.integers(1, 60), st.sampled_from(sorted(STRATEGIES)), st.data())
def test_a_choice_has_the_number_and_depends_on_the_seed_alone(
    fleet: list[Candidate], number: int, round: int, strategy: str, data: st.DataObject
) -> None:
    every = data.draw(st.none() | st.integers(1, 5))
    choice = _select(fleet, number, round, "s", strategy=strategy, atLeastEvery=every)
    assert choice.edges == sorted(set(choice.edges))
    assert set(choice.edges) <= {each.name for each in fleet}
    if strategy == "resources" and every is None:
        assert 1 <= len(choice.edges) <= min(number, len(fleet))
    elif strategy != "resources":
        assert len(choice.edges) == min(number, len(fleet))
    shuffled = data.draw(st.permutations(fleet))
    assert _select(shuffled, number, round, "s", strategy=strategy, atLeastEvery=every) == choice


def _power_of_choice(fleet: dict[str, tuple[float, float]], d: int, m: int, rng: random.Random) -> list[str]:
    """Cho et al.: draw d of them by p_k without replacement, and keep the m of the highest loss (section 4)."""
    keys = {name: -math.log(1 - rng.random()) / share for name, (share, _) in sorted(fleet.items())}
    drawn = sorted(keys, key=lambda name: keys[name])[:d]
    return sorted(sorted(drawn, key=lambda name: fleet[name][1], reverse=True)[:m])


TOLD = st.tuples(st.integers(1, 99), st.integers(0, 10**6))


@given(st.lists(TOLD, min_size=1, max_size=20, unique_by=lambda each: each[1]), st.integers(1, 8), st.integers(1, 20),
       st.booleans(), st.integers(0, 99))  # fmt: skip
def test_power_of_choice_is_the_papers_rule(
    told: list[tuple[int, int]], number: int, candidates: int, received: bool, seed: int
) -> None:
    fleet = [Candidate(f"edge-{n:02}", samples, EdgeMemory(3, 3, 1, None if received else loss / 7,
                                                         loss / 7 if received else None))
             for n, (samples, loss) in enumerate(told)]  # fmt: skip
    parameters = [{"key": "candidates", "value": candidates}]
    choice = _select(fleet, number, 4, f"{seed}", strategy="power-of-choice", parameters=parameters)
    number = min(number, len(fleet))
    reference = {each.name: (float(each.num_samples), loss) for each, (_, loss) in zip(fleet, told, strict=True)}
    expected = _power_of_choice(reference, max(number, candidates), number, seeded(f"{seed}"))
    assert (choice.edges, choice.lacking) == (expected, "")


def test_power_of_choice_asks_new_edges_first_and_those_that_tell_nothing_do_not_stay_first() -> None:
    known = [Candidate(f"known-{n}", 10, EdgeMemory(5, 5, 10, float(n))) for n in range(4)]
    silent = [Candidate(f"silent-{n}", 10, EdgeMemory(5, 5, 10)) for n in range(2)]
    new = [Candidate("new", 10), Candidate("asked-in-vain", 10, EdgeMemory(5))]
    parameters = [{"key": "candidates", "value": 100}]
    choice = _select([*known, *silent, *new], 4, 6, "s", strategy="power-of-choice", parameters=parameters)
    assert choice.edges == ["asked-in-vain", "known-2", "known-3", "new"]
    assert choice.lacking == "2 edges have told neither received_loss nor loss"


def test_power_of_choice_prefers_the_loss_of_the_received_model() -> None:
    fleet = [Candidate("a", 1, EdgeMemory(1, 1, 1, 9.0, 0.1)), Candidate("b", 1, EdgeMemory(1, 1, 1, 0.1, 9.0))]
    assert _select(fleet, 1, 2, "s", strategy="power-of-choice").edges == ["b"]


def _oort(fleet: dict[str, tuple[int, float, int, float]], new: list[str], k: int, round: int, epsilon: float,
          rng: random.Random) -> list[str]:  # fmt: skip
    """Lai et al., algorithm 1, lines 6 to 18: |B| sqrt(mean of squared losses), the term for age, the penalty for slow
    ones, the cutoff, a draw by utility; and an exploration of new ones."""
    explore = math.floor(k * epsilon)
    explore += rng.random() < k * epsilon - explore
    explore = max(min(explore, len(new)), k - len(fleet))
    preferred = median(seconds for _, _, _, seconds in fleet.values()) if fleet else math.inf
    most = max((batch * math.sqrt(loss**2) for batch, loss, _, _ in fleet.values()), default=0.0)
    util = {}
    for name, (batch, loss, last, seconds) in fleet.items():
        util[name] = batch * math.sqrt(loss**2) / most + math.sqrt(0.1 * math.log(round) / last)
        if preferred < seconds:
            util[name] *= (preferred / seconds) ** 2
    exploit = min(k - explore, len(fleet))
    chosen = []
    if exploit:
        cutoff = 0.95 * sorted(util.values())[-exploit]
        keys = {name: -math.log(1 - rng.random()) / util[name] for name in sorted(util) if util[name] >= cutoff}
        chosen = sorted(keys, key=lambda name: keys[name])[:exploit]
    return sorted(chosen + rng.sample(sorted(new), min(explore, len(new))))


@given(
    st.lists(st.tuples(st.integers(1, 99), st.floats(0.01, 50), st.integers(1, 9), st.floats(0.1, 60)), max_size=15),
    st.integers(0, 8), st.integers(1, 9), st.integers(10, 80), st.integers(0, 99),
)  # fmt: skip
def test_oort_is_the_papers_rule(
    told: list[tuple[int, float, int, float]], unknown: int, number: int, round: int, seed: int
) -> None:
    explored = {f"edge-{n:02}": each for n, each in enumerate(told)}
    new = [f"new-{n}" for n in range(unknown)]
    if not explored and not new:
        return
    fleet = [Candidate(name, 1, EdgeMemory(last, last, batch, loss, None, seconds))
             for name, (batch, loss, last, seconds) in explored.items()]  # fmt: skip
    fleet += [Candidate(name) for name in new]
    k, epsilon = min(number, len(fleet)), max(0.2, 0.9 * 0.98 ** (round - 1))
    choice = _select(fleet, number, round, f"{seed}", strategy="oort")
    assert choice.edges == _oort(explored, new, k, round, epsilon, seeded(f"{seed}"))


def test_oort_explores_in_the_first_round_and_divides_by_nothing() -> None:
    new = [Candidate(f"edge-{n}") for n in range(5)]
    assert len(_select(new, 2, 1, "s", strategy="oort").edges) == 2
    zero = [Candidate(f"edge-{n}", 1, EdgeMemory(1, 1, 0, 0.0, None, 0.0)) for n in range(5)]
    for round in (1, 2, 1000):
        assert len(_select(zero, 2, round, "s", strategy="oort").edges) == 2
    assert utilities_of([], 1, OortParameters()) == {}
    assert utilities_of(zero[:1], 1, OortParameters()) == {"edge-0": 0.0}


def test_oort_asks_new_edges_also_where_a_round_asks_one_edge_and_exploration_has_decayed() -> None:
    fleet = [Candidate(f"old-{n}", 9, EdgeMemory(9, 9, 9, 5.0, None, 1.0)) for n in range(9)] + [Candidate("new")]
    asked = [_select(fleet, 1, round, f"{round}", strategy="oort").edges for round in range(200, 400)]
    assert 20 < asked.count(["new"]) < 70  # a fifth of the rounds


def test_oort_prefers_a_high_loss_many_samples_and_an_old_one_and_slow_edges_less() -> None:
    def of(**more: Any) -> float:
        known = {"asked": 10, "counted": 10, "num_samples": 10, "loss": 1.0, "seconds": 10.0} | more
        fleet = [Candidate("it", 1, EdgeMemory(**known)), Candidate("most", 1, EdgeMemory(10, 10, 100, 10.0)),
                 *(Candidate(f"{n}", 1, EdgeMemory(10, 10, 1, 1.0, None, 10.0)) for n in range(2))]  # fmt: skip
        return utilities_of(fleet, 50, OortParameters())["it"]

    assert of(loss=2.0) > of() and of(num_samples=20) > of() and of(counted=2) > of()
    assert of(seconds=20.0) == pytest.approx(of() / 4)
    assert of(seconds=5.0) == of()
    age = math.sqrt(0.1 * math.log(50) / 10)
    assert of(loss=-3.0) == pytest.approx(age)  # a negative loss is none


def test_an_edge_that_tells_oort_no_loss_is_as_a_new_one() -> None:
    fleet = [Candidate("a", 1, EdgeMemory(1, 1, 5)), Candidate("b", 1, EdgeMemory(1, 1, 5))]
    choice = _select(fleet, 1, 30, "s", strategy="oort")
    assert len(choice.edges) == 1
    assert choice.lacking == "2 edges have told no loss: they are drawn as if they were new"


GOOD = NodeState(free_memory=2 << 30, free_cores=2.0, battery=80)
ASKS = [{"key": "free_memory", "value": "1Gi"}, {"key": "free_cores", "value": 1}, {"key": "battery", "value": 50}]


@pytest.mark.parametrize(
    ("node", "asked"),
    [
        (GOOD, True),
        (GOOD.model_copy(update={"free_memory": 1 << 29}), False),
        (GOOD.model_copy(update={"free_cores": 0.5}), False),
        (GOOD.model_copy(update={"battery": 49}), False),
        (GOOD.model_copy(update={"battery": 1, "charging": True}), True),
        (GOOD.model_copy(update={"battery": None}), True),
    ],
)
def test_an_edge_with_too_little_is_not_asked(node: NodeState, asked: bool) -> None:
    fleet = [Candidate("it", 1, node=node), Candidate("other", 1, node=GOOD)]
    edges = {edge for seed in range(20)
             for edge in _select(fleet, 1, 1, f"{seed}", strategy="resources", parameters=ASKS).edges}  # fmt: skip
    assert edges == ({"it", "other"} if asked else {"other"})
    both = _select(fleet, 2, 1, "s", strategy="resources", parameters=ASKS)
    assert both.edges == (["it", "other"] if asked else ["other"])


def test_edges_that_report_nothing_come_after_those_with_enough() -> None:
    fleet = [Candidate("silent", 1), Candidate("older", 1, node=NodeState(battery=90)), Candidate("good", 1, node=GOOD)]
    assert _select(fleet, 1, 1, "s", strategy="resources", parameters=ASKS) == Choice(["good"])
    choice = _select(fleet, 2, 1, "s", strategy="resources", parameters=ASKS)
    assert "good" in choice.edges and choice.lacking == "2 edges do not report what they have free"


def test_where_all_have_too_little_all_are_drawn_from() -> None:
    fleet = [Candidate(name, 1, node=NodeState(battery=5)) for name in ("a", "b", "c")]
    choice = _select(fleet, 2, 1, "s", strategy="resources")
    assert (len(choice.edges), choice.lacking) == (2, "none of 3 edges reports enough")


@given(st.integers(1, 12), st.integers(1, 6), st.sampled_from(sorted(STRATEGIES)), st.data())
def test_no_edge_waits_longer_than_the_floor_says_where_that_is_possible(
    edges: int, number: int, strategy: str, data: st.DataObject
) -> None:
    """Also where the strategy would never ask it: its loss is the lowest, and it is the slowest."""
    number = min(number, edges)
    floor = data.draw(st.integers(-(-edges // number), 12))
    asked = dict.fromkeys((f"edge-{n}" for n in range(edges)), 0)
    for round in range(1, 4 * floor + 2):
        fleet = [Candidate(name, 10, EdgeMemory(last, last, 10, float(n), None, 100.0 - n) if last else EdgeMemory())
                 for n, (name, last) in enumerate(asked.items())]  # fmt: skip
        choice = _select(fleet, number, round, f"{round}", strategy=strategy, atLeastEvery=floor)
        assert not choice.lacking.startswith(f"{number} of")
        asked |= dict.fromkeys(choice.edges, round)
        assert min(asked.values()) > round - floor


def test_a_floor_that_cannot_be_kept_says_so_and_asks_the_longest_waiting() -> None:
    fleet = [Candidate(f"edge-{n}", 1, EdgeMemory(n)) for n in range(9)]
    choice = _select(fleet, 2, 20, "s", strategy="random", atLeastEvery=3)
    assert choice.edges == ["edge-0", "edge-1"]
    assert choice.lacking == "2 of 9 edges a round: each is asked about once in 5 rounds, not in 3"


def test_a_floor_leaves_the_choice_to_the_strategy_while_nobody_is_due() -> None:
    fleet = [Candidate(f"edge-{n}", 1, EdgeMemory(9, 9, 1, float(n))) for n in range(9)]
    parameters = [{"key": "candidates", "value": 9}]
    choice = _select(fleet, 2, 10, "s", strategy="power-of-choice", parameters=parameters, atLeastEvery=30)
    assert choice.edges == ["edge-7", "edge-8"]


@pytest.mark.parametrize(
    ("participants", "edges", "number"),
    [({"fraction": 0.1}, 100, 10), ({"fraction": 0.1}, 9, 1), ({"fraction": 0.001}, 5, 1),
     ({"fraction": 0.29}, 100, 29), ({"fraction": 0.57}, 100, 57), ({"fraction": 0.5}, 3, 1),
     ({"fraction": 1.0}, 7, 7), ({"count": 5}, 3, 5), ({"all": True}, 3, None)],
)  # fmt: skip
def test_a_fraction_is_max_c_k_1(participants: dict[str, Any], edges: int, number: int | None) -> None:
    assert number_of(Participants.model_validate(participants), edges) == number


def test_a_draw_by_weight_draws_by_weight() -> None:
    weights = {"a": 1.0, "b": 3.0, "c": 0.0}
    first = [weighted_sample([*weights], weights, 1, seeded(str(number)))[0] for number in range(2000)]
    assert 0.2 < first.count("a") / 2000 < 0.3 and first.count("c") == 0
    assert sorted(weighted_sample([*weights], weights, 3, seeded("s"))) == ["a", "b", "c"]
