"""Requests in, replies and retained status out."""
