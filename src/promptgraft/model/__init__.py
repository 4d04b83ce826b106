"""This room holds the frozen backbone: the catalog, the tokeniser, and a file for each model family."""
