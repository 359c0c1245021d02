"""Commands that record, read, change, replay and check traces."""
