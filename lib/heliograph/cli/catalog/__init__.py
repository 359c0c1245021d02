"""Commands about what jobs name: models, data sets, packages of code; and what is collected in the end."""
