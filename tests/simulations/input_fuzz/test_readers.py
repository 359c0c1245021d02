"""Every reader takes hostile inputs: it returns, or raises HeliographError, within bounds of memory and CPU time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.world import seeded
from heliograph.simulations.input_fuzz import finding
from heliograph.simulations.input_fuzz.campaign import play
from heliograph.simulations.input_fuzz.catalog import TARGETS
from heliograph.simulations.input_fuzz.sandbox import Sandbox

CORPUS = sorted((Path(__file__).parents[2] / "data" / "hostile" / "files").iterdir())
INPUTS = 60
"""Inputs of each target in ``make test``; ``make fuzz-input`` plays as many as there is time for."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as one:
        yield one


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_a_past_fault_stays_fixed(file: Path, sandbox: Sandbox) -> None:
    found = finding.replay(file, sandbox)
    assert found is None, finding.describe(found, file)


@pytest.mark.parametrize("target", TARGETS)
def test_a_reader_takes_hostile_inputs(target: str, sandbox: Sandbox, tmp_path: Path) -> None:
    tally = play(target, 1, sandbox, lambda number: number < INPUTS)
    assert [finding.describe(each, each.write(tmp_path)) for each in tally.findings] == []
    assert tally.accepted > 0 and tally.played == INPUTS


@pytest.mark.parametrize("target", TARGETS)
def test_valid_inputs_are_accepted_and_the_same_on_every_machine(target: str, sandbox: Sandbox) -> None:
    made = [TARGETS[target].valid(seeded(number)) for number in range(10)]
    assert sum(sandbox.read(target, each).accepted for each in made) > 2
    if target != "npz":  # a zip has the time of its making
        assert made == [TARGETS[target].valid(seeded(number)) for number in range(10)]


@hypothesis.settings(
    derandomize=True, max_examples=20, phases=[hypothesis.Phase.generate],
    suppress_health_check=[*hypothesis.HealthCheck],
)  # fmt: skip
@given(st.sampled_from(["event", "resource", "report", "close-record", "inference-request"]), st.randoms())
def test_hypothesis_finds_no_document_that_a_reader_does_not_take(target: str, rng: random.Random) -> None:
    with_one = TARGETS[target].input(rng)
    fault = SHARED.read(target, with_one).fault
    assert fault is None, fault.text


SHARED = Sandbox()


@pytest.fixture(scope="module", autouse=True)
def _end_shared() -> Iterator[None]:
    with SHARED:
        yield
