"""The targets, one module a kind of reader. ``catalog`` has all of them."""
