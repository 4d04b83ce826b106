"""Reads data files into tasks: examples with their kind, labels and metric, in splits."""
