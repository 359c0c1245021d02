"""Scenarios: a YAML file says which edges, links, data, jobs and faults there are and what shall come of it; it runs in
virtual time or on real processes, and a report tells what came."""
