"""What an algorithm keeps on its edge: only the state of the last counted update is ever used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heliograph.workers.edge_states import STAGED, EdgeStates


def _digest(number: int) -> str:
    return f"{number:064x}"


def _read(states: EdgeStates, counted: str | None) -> float | None:
    found = states.current(counted)
    if found is None:
        return None
    with found as file:
        return float(file.numpy("c")[0])


@given(events=st.lists(st.tuples(st.sampled_from(["counted", "late", "refused", "restarted"]), st.booleans())))
def test_the_state_is_that_of_the_last_counted_update(tmp_path_factory: object, events: list[tuple[str, bool]]) -> None:
    directory = tmp_path_factory.mktemp("edge")  # type: ignore[attr-defined]
    states, counted = EdgeStates(directory), None
    for number, (fate, again) in enumerate(events, 1):
        assert _read(states, _digest(counted) if counted else None) == counted
        states.stage(_digest(number), {"c": np.full(3, float(number))})
        if again:  # the worker was killed, and trained the round once more to the same weights
            EdgeStates(directory).stage(_digest(number), {"c": np.full(3, float(number))})
        if fate == "counted":
            counted = number
        elif fate == "restarted":
            states = EdgeStates(directory)
    assert _read(states, _digest(counted) if counted else None) == counted


def test_few_states_lie_on_the_disk(tmp_path: Path) -> None:
    states = EdgeStates(tmp_path)
    for number in range(20):
        states.stage(_digest(number), {"c": np.zeros(3)})
        states.current(_digest(2) if number >= 2 else None)
    assert len(list(tmp_path.rglob("*0*"))) <= STAGED + 1
    assert states.current(_digest(2)) is not None


def test_a_lost_state_is_none(tmp_path: Path) -> None:
    assert EdgeStates(tmp_path).current(_digest(7)) is None


def test_an_algorithm_without_a_state_leaves_no_file(tmp_path: Path) -> None:
    EdgeStates(tmp_path).stage(_digest(1), {})
    assert not list(tmp_path.iterdir())
