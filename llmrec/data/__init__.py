"""From raw files to a dataset folder: formats, ingest, split, and how it is opened."""
