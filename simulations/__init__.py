"""Whole clusters on one machine: local processes, faults, the demo, benchmarks."""
