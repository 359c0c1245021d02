"""Addresses of this machine that other machines reach."""

from __future__ import annotations

import contextlib
import socket

from heliograph.bus.connection_url import is_loopback


def outer_address() -> str:
    """Return an address of this machine that is not loopback; empty if there is none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; the kernel chooses the address
        address = str(probe.getsockname()[0])
        return "" if is_loopback(address) else address
    return ""
