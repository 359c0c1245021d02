"""The aggregation worker: collect, check, combine and close a round."""
