"""What is fused behind the affine map, ``relu(... + residual)``, and which gradients it lets through."""

from ...jit import device
from ..flags import ADDS, CLIPS, FROM_X, FROM_Y
from .memory import load
from .simd import fma, relu, where_active


@device
def add_and_clip(value, residual, i, count, flags):
    """The forward result at offset ``i``, of which the first ``count`` lanes matter."""
    if flags & ADDS:
        value = value + load(residual, i, count, value)
    if flags & CLIPS:
        value = relu(value)
    return value


@device
def let_through(gradient, centred, scale, offset, y, i, count, flags):
    """The gradient where ReLU was open, else 0: seen from y, or from ``centred * scale + offset`` as forward had it."""
    if flags & FROM_X:
        return where_active(gradient, fma(centred, scale, offset))
    if flags & FROM_Y:
        return where_active(gradient, load(y, i, count, gradient))
    return gradient
