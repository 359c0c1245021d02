"""Replay as a test: one real component runs in virtual time, the rest is played from a trace, and the component's
messages are compared with the recorded ones."""
