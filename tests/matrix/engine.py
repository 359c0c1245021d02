"""The Docker engine that runs the matrix's brokers, or why there is none."""

from __future__ import annotations

import asyncio
import os
from functools import cache

import pytest

REQUIRED = "HELIOGRAPH_REQUIRE_DOCKER"
SOCKET = "unix:///var/run/docker.sock"
"""Where Docker's engine listens unless ``DOCKER_HOST`` says otherwise."""


async def need_docker() -> None:
    """Skip the test where no engine answers; fail it where the environment requires one."""
    if reason := await asyncio.to_thread(lacking):
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{reason}; {REQUIRED}=1 requires it")
        pytest.skip(reason)


@cache
def lacking() -> str:
    """Return why the matrix cannot run; empty where it can."""
    try:
        import docker  # what testcontainers asks the engine by
        import testcontainers  # noqa: F401
    except ModuleNotFoundError as missing:
        return f"not run: {missing.name} is not installed; 'make matrix' installs it"
    try:
        docker.from_env(timeout=10).ping()
    except Exception as error:  # its own, and those of the libraries below
        where = os.environ.get("DOCKER_HOST", SOCKET)
        return f"not run: no Docker engine answers at {where} ({type(error).__name__})"
    return ""
