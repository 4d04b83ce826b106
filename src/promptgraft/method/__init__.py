"""A method sets up a run; each has a file of its own behind one contract."""
