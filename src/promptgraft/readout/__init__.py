"""From hidden states to predictions: one file a readout, behind one contract."""
