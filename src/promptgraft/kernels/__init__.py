"""The kernels are the inner operations of a forward pass over packed rows, in plain torch or on a GPU.

Everything here works on packed rows (no padding) and equals its textbook formula; see `plain.py` and
`attention.py` for the torch implementations that always work.
"""

from promptgraft.kernels.attention import attention
from promptgraft.kernels.plain import activation, add_norm, embed_norm, gated, product, rms_norm, segment_mean
from promptgraft.kernels.rows import Rows

__all__ = ["Rows", "activation", "add_norm", "attention", "embed_norm", "gated", "product", "rms_norm", "segment_mean"]
