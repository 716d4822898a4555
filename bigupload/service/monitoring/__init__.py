"""What an operator sees of a running service, beside the counts of `metrics`: the store, open uploads, spans."""
