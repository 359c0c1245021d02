"""The reasons why there is no index of a file."""

from __future__ import annotations


class Unusable(Exception):
    """A sentence without its subject: whoever shows it puts the file's path before it."""


class Interrupted(Exception):
    """Nobody waits for the index any more."""
