"""A look at a log, and the YAML that reads it."""
