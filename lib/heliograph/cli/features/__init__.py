"""The presentation of each kind of resource on the command line, a file for each feature."""
