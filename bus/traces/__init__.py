"""Traces: what went over a broker's topics, recorded in MCAP files, replayed, and compared."""
