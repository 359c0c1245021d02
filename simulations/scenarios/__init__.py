"""Scenarios that ship, a file each."""
