"""The engine runs jobs and gives their results; what jobs share is computed once, the rest is packed into batches."""
