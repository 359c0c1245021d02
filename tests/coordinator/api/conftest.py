from __future__ import annotations

import pytest

from heliograph.coordinator.quotas import Quotas
from tests.coordinator.api.desk import Desk, make_desk


@pytest.fixture
async def desk() -> Desk:
    return await make_desk(Quotas())
