"""A cluster on this machine: brokers, processes, links and data."""
