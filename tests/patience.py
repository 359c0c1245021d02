"""How long a test waits before it calls something hung."""

from __future__ import annotations

HANGS = 300.0
"""Seconds. On a machine with ten times the load that it has cores for, a process takes half a minute to start; nothing
is measured by it, and a test that passes never waits so long."""
