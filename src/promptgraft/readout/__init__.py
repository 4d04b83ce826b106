"""A readout turns hidden states into predictions; each has a file of its own behind one contract."""
