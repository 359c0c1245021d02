"""How the command line shows each kind of resource, a file for each feature."""
