"""Predict what a stranger will buy next, from the first page view on."""

__version__ = "0.1.0"
