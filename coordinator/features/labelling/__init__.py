"""Labelling: hard samples wait for labels, labellers claim them, and what they agree on is told."""
