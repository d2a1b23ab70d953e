"""The language model and a live item graph in one ranking."""
