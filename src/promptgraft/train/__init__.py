"""Runs, their recipes and loss terms, and the one loop that trains any number of them."""
