"""Boosted trees, logistic regression and simple scores, to compare the click model with."""
