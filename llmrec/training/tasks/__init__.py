"""Training tasks: examples rendered from templates over a dataset, in one mixture."""
