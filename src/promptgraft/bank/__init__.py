"""A folder of artefacts with an index."""
