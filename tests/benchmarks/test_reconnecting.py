"""A broker that starts again under its agents' connections: all come back, at moments of their own."""

from __future__ import annotations

import pytest

from benchmarks.reconnecting import measured
from heliograph.local.nats_server import find_nats_server


@pytest.mark.process
@pytest.mark.parametrize(
    ("clients", "processes", "away"), [(40, 2, 2.0), pytest.param(1000, 4, 8.0, marks=pytest.mark.long)]
)
def test_agents_come_back_to_a_broker_that_starts_again(clients: int, processes: int, away: float) -> None:
    find_nats_server()
    found = measured(clients, processes, away)
    assert {key: found[key] for key in ("missing", "lost", "doubled")} == {"missing": [0], "lost": [0], "doubled": [0]}
    assert found["attempts"][0] < 12  # one every tenth of a second would be ten times as many
