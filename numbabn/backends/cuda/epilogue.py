"""The arithmetic of elements, for both families: the affine map and what is fused after it, and the gradient by x.

``i`` and ``span`` say where a vector is, as ``simd.load_within`` wants it; ``constants`` and ``terms`` are vectors of
what ``constants.affine`` and ``constants.gradient`` give, or those of ``rows``.
"""

from ..flags import ADDS, CLIPS, FROM_X, FROM_Y, FROZEN
from .simd import fma, load_within, relu, where_active
from .toolkit import device


@device
def normalized(x, residual, i, span, constants, flags):
    """``relu(d * p + r + residual)``, of ``d = x - m``."""
    m, p, r, _ = constants
    value = fma(load_within(x, i, span, m) - m, p, r)
    if flags & ADDS:
        value = value + load_within(residual, i, span, value)
    if flags & CLIPS:
        value = relu(value)
    return value


@device
def centred_and_open(dy, x, y, i, span, constants, fill, flags):
    """``d = x - m``, and dy where ReLU was open, else 0: seen from y, or from ``d * p + r`` as forward had it.

    ``fill`` is dy where a vector is of other rows.
    """
    m, p, r, _ = constants
    d, g = load_within(x, i, span, m) - m, load_within(dy, i, span, fill)
    if flags & FROM_X:
        g = where_active(g, fma(d, p, r))
    if flags & FROM_Y:
        g = where_active(g, load_within(y, i, span, g))
    return d, g


@device
def input_gradient(d, g, constants, terms, flags):
    """dx: ``(g - u) * p + d * h * b + a``; through statistics that were constants ``g * p``."""
    _, p, _, h = constants
    u, a, b = terms
    return g * p if flags & FROZEN else fma(g - u, p, fma(d * h, b, a))
