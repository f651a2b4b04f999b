"""Scores in, metrics and a report out; knows nothing of training."""
