"""The frozen backbone: catalog, tokens, and one file a model family."""
