"""The edges: read presence and reports, write desired documents."""
