"""Random faults against real processes, and the check that no event was lost, counted twice or summed differently."""
