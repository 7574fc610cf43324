"""What is fused behind the affine map, ``relu(... + residual)``, and which gradients it lets through."""

from ..flags import ADDS, CLIPS, FROM_X, FROM_Y
from .simd import fma, load_within, relu, where_active
from .toolkit import device


@device
def add_and_clip(value, residual, i, span, flags):
    """The forward result at offset ``i``; for its span see ``simd.load_within``."""
    if flags & ADDS:
        value = value + load_within(residual, i, span, value)
    if flags & CLIPS:
        value = relu(value)
    return value


@device
def let_through(gradient, centred, scale, offset, y, i, span, flags):
    """The gradient where ReLU was open, else 0: seen from y, or from ``centred * scale + offset`` as forward had it."""
    if flags & FROM_X:
        return where_active(gradient, fma(centred, scale, offset))
    if flags & FROM_Y:
        return where_active(gradient, load_within(y, i, span, gradient))
    return gradient
