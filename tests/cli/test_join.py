"""``heliograph join``: what is found without a cluster. ``features/federated/test_participants.py`` has the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(("words", "said"), [
    (["join", "jobs/A", "--edge", "edge-1"], "jobs/NAME: expected a DNS label"),
    (["join", "jobs/", "--edge", "edge-1"], "got nothing"),
    (["join", "services/x", "--edge", "edge-1"], "jobs/NAME: expected a DNS label"),
    (["join", "jobs/x", "--edge", "a.b"], "--edge: expected a DNS label"),
    (["join", "jobs/x"], "missing option '--edge'"),
])  # fmt: skip
def test_words_that_name_no_job_or_edge(typed: Callable[..., Any], words: list[str], said: str) -> None:
    ran = typed(*words)
    assert ran.code == 2
    assert said in ran.error
