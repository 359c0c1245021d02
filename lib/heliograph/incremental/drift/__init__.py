"""Detectors of drift: whether a stream of numbers has left what it was."""
