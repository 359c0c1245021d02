"""Scenarios: a YAML file declares edges, links, data, jobs, faults and expectations. It is played in virtual time or on
real processes, and a report shows the outcome."""
