"""Commands for labellers: people, files of known labels, Label Studio."""
