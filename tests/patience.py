"""The longest time that a test waits before it fails."""

from __future__ import annotations

HANGS = 300.0
"""Seconds. On a machine with ten runnable processes for each core, a process takes half a minute to start. No test
measures this time, and a passing test never waits so long."""
