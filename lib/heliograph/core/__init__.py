"""Foundations that every part imports: errors, names, the world, tasks. This package knows no messages."""
