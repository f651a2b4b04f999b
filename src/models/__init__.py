"""Histories in, scores over the catalogue out; no optimiser, no logging, no files besides the checkpoint's."""
