"""The reason why a file is no data set."""

from __future__ import annotations


class Unusable(Exception):
    """A sentence without its subject: whoever shows it puts the file's path before it."""
