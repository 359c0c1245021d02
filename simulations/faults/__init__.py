"""Random faults against real processes, and the proof that nothing was lost, counted twice or summed differently."""
