"""The same components in one process and in virtual time: a loop without a wall clock, links that fail."""
