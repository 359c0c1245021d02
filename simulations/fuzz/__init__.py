"""Random clusters under random faults in virtual time. A failure replays exactly and is shrunk to its essentials."""
