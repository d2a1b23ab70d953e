"""What a model is taught: examples from templates over a dataset, in one mixture of tasks."""
