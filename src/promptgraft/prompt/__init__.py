"""The prompt: its value, its start, its parameterisation, and its files on disk."""
