"""The in-memory transport: clients of a hub in one process, for simulations and tests."""
