"""What the second walk of ``planes`` does with one vector.

``i`` is its offset in the arrays, ``j`` in the source; its first ``n`` elements count. Whole vectors of one channel
have a loop of their own in each walk, without masks and limits. With AVX2, where these take longer than memory does,
one loop for all made (32, 256, 14, 14) take 1.9 times as long in inference, 1.3 in training forward, 1.4 in backward,
fifteen shapes 1.1 in each (geometric mean). Tried and dropped: the same in the first walk, and in ``rows``; no gain.
"""

from ...jit import device
from ..flags import FROM_Y, FROZEN, STREAMS, STREAMS_RESIDUAL
from .epilogue import add_and_clip, let_through
from .memory import cast, load, put
from .simd import fma, splat


@device
def write_normalized(arrays, source, i, j, n, constants, flags):
    """``y = relu((x - m) * p + r + residual)``."""
    _, residual, y = arrays
    m, p, r = constants
    v = fma(load(source.x, j, n, m) - m, p, r)
    put(y, i, n, add_and_clip(v, residual, i, n, flags), flags & STREAMS)


@device
def write_gradient(inputs, outputs, source, i, j, n, constants, flags):
    """``dx = (dy - u) * p + (x - m) * h * b + a``, dy being what the activation let through.

    Through running statistics (FROZEN) it is ``dy * p``; x counts only for ReLU's sign: a NaN stays there.
    """
    dy, _, y = inputs
    dx, dresidual = outputs
    m, p, r, h, u, a, b = constants
    d = load(source.x, j, n, m) - m
    g = let_through(load(source.dy, j, n, splat(cast(dy, 0.0))), d, p, r, y, i, n, flags)
    if flags & FROM_Y:
        put(dresidual, i, n, g, flags & STREAMS_RESIDUAL)
    g = g * p if flags & FROZEN else fma(g - u, p, fma(d * h, b, a))
    put(dx, i, n, g, flags & STREAMS)
