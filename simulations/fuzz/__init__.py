"""Random clusters under random faults in virtual time: what breaks replays exactly, and is shrunk to what it takes."""
