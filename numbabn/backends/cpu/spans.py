"""The second walk with constants for each lane: over memory in order, across channels, so as to stream whole lines.

Lanes have the constants of their channels side by side; what lies in order in memory has its lanes in order too.
"""

from ...jit import device
from .epilogue import add_and_clip, let_through
from .flags import FROM_Y, FROZEN, STREAMS, STREAMS_RESIDUAL
from .memory import cast, lanes_of, load, prefetch, put, to_boundary
from .simd import fma, splat

M, P, R, H, U, A, B = range(7)
"""Rows of the constants:
``d = x - M``, ``y = d * P + R``, ``dx = (dy - U) * P + d * H * B + A``."""

FORWARD, FORWARD_AND_H, GRADIENT = (M, H), (M, U), (U, B + 1)
"""Ranges of them: what forward needs; with H, for the sums of backward; what those give."""


@device
def normalize_span(arrays, walk, start, stop, lane, width, lanes):
    """``y = relu((x - mean) * scale + beta + residual)`` from one offset to another, the first being for ``lane``.

    Lost: a loop of whole vectors between a first and a last one. It was no faster, and took longer to compile.
    """
    x, residual, y = arrays
    _, flags, ahead = walk
    size, pitch = lanes_of(x), lanes.shape[1]
    zero = splat(cast(x, 0.0))
    i = start
    n = to_boundary(y, i, flags & STREAMS)
    while i < stop:
        n = min(n, stop - i)
        prefetch(x, i + ahead)
        m = load(lanes, M * pitch + lane, size, zero)
        p = load(lanes, P * pitch + lane, size, zero)
        r = load(lanes, R * pitch + lane, size, zero)
        v = fma(load(x, i, n, m) - m, p, r)
        put(y, i, n, add_and_clip(v, residual, i, n, flags), flags & STREAMS)
        i += n
        lane = lane + n if lane + n < width else lane + n - width
        n = size


@device
def write_gradient_span(inputs, outputs, walk, start, stop, lane, width, lanes):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))`` from one offset to another.

    Through running statistics (FROZEN) it is ``gamma * invstd * dy``; x counts only for ReLU's sign: a NaN stays there.
    """
    dy, x, y = inputs
    dx, dresidual = outputs
    _, flags, ahead = walk
    size, pitch = lanes_of(x), lanes.shape[1]
    zero = splat(cast(x, 0.0))
    i = start
    n = to_boundary(dx, i, flags & STREAMS)
    while i < stop:
        n = min(n, stop - i)
        prefetch(x, i + ahead)
        prefetch(dy, i + ahead)
        m = load(lanes, M * pitch + lane, size, zero)
        p = load(lanes, P * pitch + lane, size, zero)
        r = load(lanes, R * pitch + lane, size, zero)
        d = load(x, i, n, m) - m
        g = let_through(load(dy, i, n, zero), d, p, r, y, i, n, flags)
        if flags & FROM_Y:
            put(dresidual, i, n, g, flags & STREAMS_RESIDUAL)
        if flags & FROZEN:
            g = g * p
        else:
            h = load(lanes, H * pitch + lane, size, zero)
            b = load(lanes, B * pitch + lane, size, zero)
            a = load(lanes, A * pitch + lane, size, zero)
            g = fma(g - load(lanes, U * pitch + lane, size, zero), p, fma(d * h, b, a))
        put(dx, i, n, g, flags & STREAMS)
        i += n
        lane = lane + n if lane + n < width else lane + n - width
        n = size
