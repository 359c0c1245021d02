"""What the cloud keeps of models: their versions, and where their weights lie."""
