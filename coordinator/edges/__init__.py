"""The edges: presence and reports in, desired documents out."""
