"""Ways to set up a run: one file a method, behind one contract."""
