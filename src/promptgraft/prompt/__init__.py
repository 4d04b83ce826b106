"""The prompt: its value, how it starts, how it is parameterised, how it is kept on disk."""
