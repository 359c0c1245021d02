"""Joint inference: a shallow model on the edge answers easy samples, a deep model in the cloud the hard ones."""
