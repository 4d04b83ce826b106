"""promptgraft: prompts for frozen language models that can be tuned, kept, found again and carried over."""

__version__ = "0.1.0"
