"""Data sets: uploaded samples go where edges fetch them, and trained versions are noted."""
