"""A measure predicts how well a source prompt transfers to a target; each has a file of its own behind one contract."""
