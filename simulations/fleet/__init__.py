"""Very many agents on a real broker: the shipped agents, as tasks of a few processes."""
