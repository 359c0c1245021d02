"""Help pages, and completions for shells."""
