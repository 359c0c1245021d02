"""Pair training: a shallow and a deep model from the developer's samples and similar public ones."""
