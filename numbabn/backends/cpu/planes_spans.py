"""The second walk of ``planes`` over neighbouring rows as if they were one: all of them in inference, in training those
of a group of channels where rows are short.

So whole lines are streamed. A vector may hold the end of a row and the beginning of the next, and has the numbers of
either channel in its lanes. Tried and dropped: a number for each lane in memory; (32, 512, 7, 7), forward in training,
takes 2.1 times as long as a copy, with that 2.4. Inference channel by channel: (32, 256, 56, 56) takes 1.0 times as
long as a copy, with that 1.15; (128, 128, 16, 16) 1.2 and 2.05.
"""

import numpy as np

from ...jit import device, noinline
from ..flags import FROM_Y, FROZEN, STREAMS, STREAMS_RESIDUAL
from .constants import A, B, H, M, P, R, U, affine, gradient
from .epilogue import add_and_clip, let_through
from .memory import cast, load, prefetch, put, to_boundary, vector_length
from .planes_source import ahead_from, moved
from .simd import blend, fma, splat


@device
def forward_constants(constants, channel):
    """What forward needs of a channel's numbers, each in a vector."""
    return splat(constants[M, channel]), splat(constants[P, channel]), splat(constants[R, channel])


@device
def normalize_span(arrays, source, move, walk, start, stop, constants):
    """``y = relu((x - mean) * scale + beta + residual)`` from one offset to another.

    ``move`` is how much further the same elements are in the source.
    """
    noinline()
    x, residual, y = arrays
    (_, channels, inner), flags, ahead = walk
    ahead = ahead_from(source, ahead, start)
    i, end = start, (start // inner + 1) * inner
    channel = start // inner % channels
    m, p, r = forward_constants(constants, channel)
    n = to_boundary(y, i, flags & STREAMS)
    while i < stop:
        n = min(n, stop - i)
        if ahead != 0:
            prefetch(x, i + ahead)
        mean, scale, offset = m, p, r
        if i + n > end:
            channel = channel + 1 if channel + 1 < channels else np.intp(0)
            m, p, r = forward_constants(constants, channel)
            left = end - i
            mean, scale, offset = blend(left, mean, m), blend(left, scale, p), blend(left, offset, r)
            end += inner
        v = fma(load(source.x, i + move, n, mean) - mean, scale, offset)
        put(y, i, n, add_and_clip(v, residual, i, n, flags), flags & STREAMS)
        i += n
        n = vector_length(x)


@device
def normalize_group(arrays, source, walk, table, channels, constants):
    """The second walk over some neighbouring channels, last row first."""
    noinline()
    start, stop = channels
    outer, pitch, inner = walk.shape[0], walk.shape[1] * walk.shape[2], walk.shape[2]
    for channel in range(start, stop):
        m, p, r, _ = affine(arrays[0], table, channel)
        constants[M, channel], constants[P, channel], constants[R, channel] = m, p, r
    move, more = moved(source, walk.shape, start, np.intp(0))
    for row in range(outer - 1, -1, -1):
        first, last = row * pitch + start * inner, row * pitch + stop * inner
        normalize_span(arrays, source, move + row * more, walk, first, last, constants)


@device
def gradient_constants(constants, channel):
    """All of a channel's numbers, each in a vector."""
    m, p, r, h = constants[M, channel], constants[P, channel], constants[R, channel], constants[H, channel]
    u, a, b = constants[U, channel], constants[A, channel], constants[B, channel]
    return splat(m), splat(p), splat(r), splat(h), splat(u), splat(a), splat(b)


@device
def blend_constants(count, head, tail):
    """The first lanes with the numbers of one channel, the others with those of the next."""
    m, p, r = blend(count, head[M], tail[M]), blend(count, head[P], tail[P]), blend(count, head[R], tail[R])
    h, u = blend(count, head[H], tail[H]), blend(count, head[U], tail[U])
    return m, p, r, h, u, blend(count, head[A], tail[A]), blend(count, head[B], tail[B])


@device
def write_gradient_span(inputs, outputs, source, move, walk, start, stop, constants):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))`` from one offset to another.

    Through running statistics (FROZEN) it is ``gamma * invstd * dy``; x counts only for ReLU's sign: a NaN stays there.
    """
    noinline()
    dy, x, y = inputs
    dx, dresidual = outputs
    (_, channels, inner), flags, ahead = walk
    ahead = ahead_from(source, ahead, start)
    zero = splat(cast(x, 0.0))
    i, end = start, (start // inner + 1) * inner
    channel = start // inner % channels
    own = gradient_constants(constants, channel)
    n = to_boundary(dx, i, flags & STREAMS)
    while i < stop:
        n = min(n, stop - i)
        if ahead != 0:
            prefetch(x, i + ahead)
            prefetch(dy, i + ahead)
        here = own
        if i + n > end:
            channel = channel + 1 if channel + 1 < channels else np.intp(0)
            own = gradient_constants(constants, channel)
            here = blend_constants(end - i, here, own)
            end += inner
        m, p, r, h, u, a, b = here
        d = load(source.x, i + move, n, m) - m
        g = let_through(load(source.dy, i + move, n, zero), d, p, r, y, i, n, flags)
        if flags & FROM_Y:
            put(dresidual, i, n, g, flags & STREAMS_RESIDUAL)
        g = g * p if flags & FROZEN else fma(g - u, p, fma(d * h, b, a))
        put(dx, i, n, g, flags & STREAMS)
        i += n
        n = vector_length(x)


@device
def write_group_gradient(inputs, outputs, source, walk, table, sums, channels, constants):
    """The second walk over some neighbouring channels, last row first."""
    noinline()
    x = inputs[1]
    start, stop = channels
    outer, pitch, inner = walk.shape[0], walk.shape[1] * walk.shape[2], walk.shape[2]
    for channel in range(start, stop):
        m, p, r, h = affine(x, table, channel)
        u, a, b = gradient(x, table, channel, sums[0, channel], sums[1, channel], 1.0 / (outer * inner))
        for row, value in ((M, m), (P, p), (R, r), (H, h), (U, u), (A, a), (B, b)):
            constants[row, channel] = value
    move, more = moved(source, walk.shape, start, np.intp(0))
    for row in range(outer - 1, -1, -1):
        first, last = row * pitch + start * inner, row * pitch + stop * inner
        write_gradient_span(inputs, outputs, source, move + row * more, walk, first, last, constants)
