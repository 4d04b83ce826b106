"""Packed attention and fused normalisation, behind functions that can be exchanged."""
