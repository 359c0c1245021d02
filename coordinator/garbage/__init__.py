"""Garbage: what has come to the end of its life, and the stores that have no room left."""
