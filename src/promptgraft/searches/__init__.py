"""Automatic prompts: words (or vectors) that an algorithm finds within one counted budget."""
