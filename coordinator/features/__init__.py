"""The features of the coordinator, one folder each."""
