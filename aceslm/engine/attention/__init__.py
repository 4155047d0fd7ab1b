"""Attention over shared blocks and own tokens: plans, partial results, keys and values, kernels."""
