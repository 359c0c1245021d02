"""Virtual time: the duration of shipped scenarios, and the cost of one edge in a round by number of edges."""

from __future__ import annotations

import resource
import time

from heliograph.simulations.scenario.document import Scenario
from heliograph.simulations.scenario.expectations import check_expectations
from heliograph.simulations.scenario.play import RunRequest, play_virtual
from heliograph.simulations.scenario.scenario_files import find_scenario, read_scenario

SAMPLED = 10
"""Number of edges of the curve for each participant of a round."""


def shipped(name: str) -> dict[str, list[float]]:
    """Play a shipped scenario: ``seconds`` of the wall clock, ``MB`` of peak memory, updates ``left out``, ``unmet``
    expectations."""
    scenario = read_scenario(find_scenario(name))
    began = time.perf_counter()
    outcome = play_virtual(RunRequest(scenario, scenario.seed))
    seconds = time.perf_counter() - began
    left_out = sum(each.asked or 0 for job in outcome.jobs.values() for each in job.rounds) - sum(
        each.counted for job in outcome.jobs.values() for each in job.rounds
    )
    unmet = sum(not each.holds for each in check_expectations(scenario.expect, outcome))
    return {"seconds": [seconds], "MB": [_peak()], "left out": [left_out], "unmet": [unmet]}


def curve(edges: int, rounds: int = 10) -> dict[str, list[float]]:
    """Return ``ms`` of the wall clock for each edge of a round, in which a tenth of all edges take part.

    A second run with a single round is subtracted, which removes the cost of the start.
    """
    all_rounds, one_round = _timed(edges, rounds), _timed(edges, 1)
    return {"ms": [1000 * (all_rounds - one_round) / ((rounds - 1) * edges / SAMPLED)]}


def _timed(edges: int, rounds: int) -> float:
    scenario = Scenario.model_validate(
        {
            "name": "curve",
            "edges": [{"number": edges, "speed": [0.5, 2]}],
            "data": {"set": "synthetic", "partition": "iid", "samples": 32 * edges, "held_out": 100},
            "links": {"latency": ["20ms", "100ms"], "bandwidth": "1 MB/s"},
            "jobs": [{"name": "curve", "rounds": rounds, "participants": edges // SAMPLED, "deadline": "1m",
                      "training": {"hidden": 340}}],
        }
    )
    began = time.perf_counter()
    play_virtual(RunRequest(scenario, 1))
    return time.perf_counter() - began


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
