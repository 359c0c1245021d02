"""Replay as a test: one real component in virtual time, everything else played from a trace, and what it says compared
with what was recorded."""
