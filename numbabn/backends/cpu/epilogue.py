"""What is fused behind the affine map, ``relu(... + residual)``, and which gradients it lets through."""

from ...jit import device
from .simd import fma, load, relu, where_active

ADDS, CLIPS, MEASURES, WRITES = 1, 2, 4, 8
"""Forward: add the residual; apply ReLU; fill in the statistics; write y."""

FROM_X, FROM_Y, FROZEN = 1, 2, 4
"""Backward: recompute from x, or read off y, where ReLU was open; statistics were constants."""

STREAMS, STREAMS_RESIDUAL = 16, 32
"""Both: write y or dx past the caches; dresidual, too."""


@device
def add_and_clip(value, residual, i, count, epilogue):
    """The forward result at offset ``i``, of which the first ``count`` lanes matter."""
    if epilogue & ADDS:
        value = value + load(residual, i, count, value)
    if epilogue & CLIPS:
        value = relu(value)
    return value


@device
def let_through(gradient, centred, scale, shift, y, i, count, mode):
    """The gradient where ReLU was open, else 0: seen from y, or from ``centred * scale + shift`` as forward had it."""
    if mode & FROM_X:
        return where_active(gradient, fma(centred, scale, shift))
    if mode & FROM_Y:
        return where_active(gradient, load(y, i, count, gradient))
    return gradient
