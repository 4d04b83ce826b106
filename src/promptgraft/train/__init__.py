"""This room trains: runs, their recipes and loss terms, and the one loop that trains any number of runs."""
