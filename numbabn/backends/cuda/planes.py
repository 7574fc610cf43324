"""Channels whose values lie in contiguous rows: ``(outer, channels, inner)``, ``inner`` above 1 (NCHW and the like).

``inner`` counts vectors here. A block takes a part of a channel: so many of its vectors, counted row after row. The
second walk takes the parts in the opposite order, so as to meet in the L2 cache what the first has read last.
"""

from ..flags import FROM_Y, FROZEN
from ..host import MEAN
from .constants import affine, gradient
from .epilogue import add_and_clip, let_through
from .moments import add_block, merge_block
from .policy import THREADS
from .simd import cast, first, fma, lanes, load, shared, splat, store, total
from .toolkit import cuda, device, kernel

SIZES = "lll"
"""Kinds of the sizes that kernels take (see ``launch.run``)."""


@device
def part_at(block, outer, channels, inner, count):
    """A block's channel and part, and the first of its vectors and how many there are."""
    channel, part = block // count, block % count
    size = outer * inner
    begin = size * part // count
    return channel, part, begin, size * (part + 1) // count - begin


@device
def place(channel, channels, inner, index):
    """Offset of a channel's vector, counted row after row, and its place in the row."""
    return (index // inner * channels + channel) * inner + index % inner, index % inner


@device
def advance(offset, column, channels, inner):
    """The same for the vector that is THREADS further. (No division: one of 64 bits is long.)"""
    offset += THREADS // inner * (channels * inner) + THREADS % inner
    column += THREADS % inner
    return (offset, column) if column < inner else (offset + (channels - 1) * inner, column - inner)


@kernel
def sum_parts(x, parts, table, outer, channels, inner, count):
    """Moments of each part, means counted from the channel's first value, which is left where the mean will stand.

    e bytes per element of e bytes.
    """
    channel, part, begin, length = part_at(cuda.blockIdx.x, outer, channels, inner, count)
    thread, size = cuda.threadIdx.x, lanes(x)
    origin = first(load(x, channel * inner))
    values, shift = cast(table, 0), origin
    s, q = splat(x, 0), splat(x, 0)
    if thread < length:
        i, column = place(channel, channels, inner, begin + thread)
        shift = first(load(x, i))
        centre = splat(x, shift)
        for _ in range(thread, length, THREADS):
            d = load(x, i) - centre
            s = s + d
            q = fma(d, d, q)
            i, column = advance(i, column, channels, inner)
        values = cast(table, ((length - 1 - thread) // THREADS + 1) * size)
    numbers = shared(table, 3)
    numbers[thread] = values
    numbers[THREADS + thread] = shift - origin + total(s) / values if values > 0 else values
    numbers[2 * THREADS + thread] = total(q) - total(s) * (total(s) / values) if values > 0 else values
    merge_block(numbers, 1, 1)
    if thread < 3:
        parts[(3 * part + thread) * channels + channel] = numbers[thread * THREADS]
    if part == 0 and thread == 0:
        table[MEAN * channels + channel] = origin


@kernel
def normalize(x, residual, y, table, outer, channels, inner, count, flags):
    """``y = relu((x - mean) * invstd * gamma + beta + residual)``. 2e bytes per element; a residual adds e."""
    block = cuda.gridDim.x - 1 - cuda.blockIdx.x
    channel, _, begin, length = part_at(block, outer, channels, inner, count)
    m, p, r, _ = affine(table, channels, channel)
    m, p, r = splat(x, m), splat(x, p), splat(x, r)
    i, column = place(channel, channels, inner, begin + cuda.threadIdx.x)
    for _ in range(cuda.threadIdx.x, length, THREADS):
        v = fma(load(x, i) - m, p, r)
        store(y, i, add_and_clip(v, residual, i, flags))
        i, column = advance(i, column, channels, inner)


@kernel
def sum_gradient_parts(dy, x, y, parts, table, outer, channels, inner, count, flags):
    """Sums of dy and of dy * xhat for each part; dy counts where the activation let it through.

    2e bytes per element; ReLU behind a residual adds e.
    """
    channel, part, begin, length = part_at(cuda.blockIdx.x, outer, channels, inner, count)
    thread = cuda.threadIdx.x
    m, p, r, h = affine(table, channels, channel)
    m, p, r, h = splat(x, m), splat(x, p), splat(x, r), splat(x, h)
    s, q = splat(x, 0), splat(x, 0)
    i, column = place(channel, channels, inner, begin + thread)
    for _ in range(thread, length, THREADS):
        d = load(x, i) - m
        g = let_through(load(dy, i), d, p, r, y, i, flags)
        s = s + g
        q = fma(g, d * h, q)
        i, column = advance(i, column, channels, inner)
    numbers = shared(table, 2)
    numbers[thread], numbers[THREADS + thread] = total(s), total(q)
    add_block(numbers, 2, 1)
    if thread < 2:
        parts[(2 * part + thread) * channels + channel] = numbers[thread * THREADS]


@kernel
def write_gradient(dy, x, y, dx, dresidual, table, gradients, outer, channels, inner, count, flags):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))``, FROZEN without the means.

    3e bytes per element; ReLU behind a residual adds 2e.
    """
    block = cuda.gridDim.x - 1 - cuda.blockIdx.x
    channel, _, begin, length = part_at(block, outer, channels, inner, count)
    m, p, r, h = affine(table, channels, channel)
    u, a, b = gradient(table, gradients, channels, channel, cast(table, outer * inner * lanes(x)))
    m, p, r, h = splat(x, m), splat(x, p), splat(x, r), splat(x, h)
    u, a, b = splat(x, u), splat(x, a), splat(x, b)
    i, column = place(channel, channels, inner, begin + cuda.threadIdx.x)
    for _ in range(cuda.threadIdx.x, length, THREADS):
        d = load(x, i) - m
        g = let_through(load(dy, i), d, p, r, y, i, flags)
        if flags & FROM_Y:
            store(dresidual, i, g)
        store(dx, i, g * p if flags & FROZEN else fma(g - u, p, fma(d * h, b, a)))
        i, column = advance(i, column, channels, inner)
