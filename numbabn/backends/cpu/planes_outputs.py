"""What the second walk of ``planes`` does with one vector, and with whole ones in a row.

``i`` is a vector's offset in the arrays, ``i + move`` in the source; its first ``n`` elements count. Whole vectors of
one channel have a loop of their own, without masks and limits, which with AVX2 take longer than memory does: with one
loop for all, on two cores of an EPYC, (32, 256, 14, 14) takes 1.9 times as long in inference, 1.3 in training forward,
1.4 in backward; fifteen shapes, of a ResNet-50's and others, 1.1 in each (geometric mean). Tried and dropped: the same
in the first walk; no gain.
"""

from ...jit import device
from ..flags import FROM_Y, FROZEN, STREAMS, STREAMS_RESIDUAL
from .epilogue import add_and_clip, let_through
from .memory import cast, load, prefetch, put, vector_length
from .simd import fma, splat


@device
def write_normalized(arrays, source, i, move, n, ahead, constants, flags):
    """``y = relu((x - m) * p + r + residual)``; ``ahead`` of it, memory is prefetched, if that is not 0."""
    x, residual, y = arrays
    m, p, r = constants
    if ahead != 0:
        prefetch(x, i + ahead)
    v = fma(load(source.x, i + move, n, m) - m, p, r)
    put(y, i, n, add_and_clip(v, residual, i, n, flags), flags & STREAMS)


@device
def write_whole_normalized(arrays, source, i, stop, move, ahead, constants, flags):
    """The same for all vectors that end before ``stop``; returns the offset behind them."""
    whole = vector_length(arrays[0])
    last = stop - whole
    while i <= last:
        write_normalized(arrays, source, i, move, whole, ahead, constants, flags)
        i += whole
    return i


@device
def write_gradient(inputs, outputs, source, i, move, n, ahead, constants, flags):
    """``dx = (dy - u) * p + (x - m) * h * b + a``, dy being what the activation let through.

    Through running statistics (FROZEN) it is ``dy * p``; x counts only for ReLU's sign: a NaN stays there.
    """
    dy, x, y = inputs
    dx, dresidual = outputs
    m, p, r, h, u, a, b = constants
    if ahead != 0:
        prefetch(x, i + ahead)
        prefetch(dy, i + ahead)
    d = load(source.x, i + move, n, m) - m
    g = let_through(load(source.dy, i + move, n, splat(cast(dy, 0.0))), d, p, r, y, i, n, flags)
    if flags & FROM_Y:
        put(dresidual, i, n, g, flags & STREAMS_RESIDUAL)
    g = g * p if flags & FROZEN else fma(g - u, p, fma(d * h, b, a))
    put(dx, i, n, g, flags & STREAMS)


@device
def write_whole_gradient(inputs, outputs, source, i, stop, move, ahead, constants, flags):
    """The same for all vectors that end before ``stop``; returns the offset behind them."""
    whole = vector_length(inputs[0])
    last = stop - whole
    while i <= last:
        write_gradient(inputs, outputs, source, i, move, whole, ahead, constants, flags)
        i += whole
    return i
