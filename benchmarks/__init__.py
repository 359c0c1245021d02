"""Benchmarks of Heliograph and of its peers, run by ``make bench``."""
