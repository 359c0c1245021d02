"""Verbs on every kind of resource: get, describe, apply, watch, stop, start, delete."""
