"""What a worker may do on its node: files, network, processes; by what the machine can enforce."""
