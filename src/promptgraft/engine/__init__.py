"""Jobs in, results out: what they share is computed once, the rest is packed together."""
