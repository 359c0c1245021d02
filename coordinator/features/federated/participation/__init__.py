"""The strategies by which participants of a round are selected: pure functions, one file each."""
