"""Very many agents on a real broker: agents as they ship, as tasks in a few processes."""
