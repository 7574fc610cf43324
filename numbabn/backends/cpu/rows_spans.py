"""The second walk of ``rows``, with constants for each lane.

Lanes have the constants of their channels side by side; what lies in order in memory has its lanes in order too.
Tried and dropped: four rows at a time, for which constants are loaded once; no faster, though most loads are theirs.
"""

from ...jit import device
from ..flags import FROM_Y, FROZEN, STREAMS, STREAMS_RESIDUAL
from .constants import A, B, H, M, P, R, U
from .epilogue import add_and_clip, let_through
from .memory import cast, load, prefetch, put, to_boundary, vector_length
from .simd import fma, splat


@device
def normalize_span(arrays, walk, start, stop, lane, width, constants):
    """``y = relu((x - mean) * scale + beta + residual)`` from one offset to another, the first being for ``lane``.

    Tried and dropped: a loop of whole vectors between a first and a last one; no faster, and longer to compile.
    """
    x, residual, y = arrays
    _, flags, ahead = walk
    size, pitch = vector_length(x), constants.shape[1]
    zero = splat(cast(x, 0.0))
    i = start
    n = to_boundary(y, i, flags & STREAMS)
    while i < stop:
        n = min(n, stop - i)
        prefetch(x, i + ahead)
        m = load(constants, M * pitch + lane, size, zero)
        p = load(constants, P * pitch + lane, size, zero)
        r = load(constants, R * pitch + lane, size, zero)
        v = fma(load(x, i, n, m) - m, p, r)
        put(y, i, n, add_and_clip(v, residual, i, n, flags), flags & STREAMS)
        i += n
        lane = lane + n if lane + n < width else lane + n - width
        n = size


@device
def write_gradient_span(inputs, outputs, walk, start, stop, lane, width, constants):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))`` from one offset to another.

    Through running statistics (FROZEN) it is ``gamma * invstd * dy``; x counts only for ReLU's sign: a NaN stays there.
    """
    dy, x, y = inputs
    dx, dresidual = outputs
    _, flags, ahead = walk
    size, pitch = vector_length(x), constants.shape[1]
    zero = splat(cast(x, 0.0))
    i = start
    n = to_boundary(dx, i, flags & STREAMS)
    while i < stop:
        n = min(n, stop - i)
        prefetch(x, i + ahead)
        prefetch(dy, i + ahead)
        m = load(constants, M * pitch + lane, size, zero)
        p = load(constants, P * pitch + lane, size, zero)
        r = load(constants, R * pitch + lane, size, zero)
        d = load(x, i, n, m) - m
        g = let_through(load(dy, i, n, zero), d, p, r, y, i, n, flags)
        if flags & FROM_Y:
            put(dresidual, i, n, g, flags & STREAMS_RESIDUAL)
        if flags & FROZEN:
            g = g * p
        else:
            h = load(constants, H * pitch + lane, size, zero)
            b = load(constants, B * pitch + lane, size, zero)
            a = load(constants, A * pitch + lane, size, zero)
            g = fma(g - load(constants, U * pitch + lane, size, zero), p, fma(d * h, b, a))
        put(dx, i, n, g, flags & STREAMS)
        i += n
        lane = lane + n if lane + n < width else lane + n - width
        n = size
