"""Channels whose values lie in contiguous rows: ``(outer, channels, inner)``, ``inner`` above 1 (NCHW and the like).

A row is a number of vectors, ``slots``. In ragged memory rows begin and end within vectors: the first and the last of a
row's slots are then shared with other channels, and some last ones are of no row. A block takes a part of a channel: so
many of its slots, counted row after row. The second walk takes the parts in the opposite order, so as to meet in the L2
cache what the first has read last.
"""

from ..flags import FROM_Y, FROZEN
from ..host import MEAN
from .constants import affine, gradient
from .epilogue import add_and_clip, let_through
from .moments import add_block, merge_block
from .policy import THREADS
from .simd import cast, element, fma, lanes, load_within, shared, splat, store_within, total, vector_of, within
from .toolkit import cuda, device, kernel

KINDS = {
    "sum_parts": "dnnlllli",
    "normalize": "dddnllllii",
    "sum_gradient_parts": "dddnnllllii",
    "write_gradient": "dddddnnllllii",
}
"""Of the kernels' arguments (see ``launch.launcher``)."""


@device
def part_at(block, outer, slots, count):
    """A block's channel and part, and the first of its slots and how many there are."""
    channel, part = block // count, block % count
    size = outer * slots
    begin = size * part // count
    return channel, part, begin, size * (part + 1) // count - begin


@device
def place(channel, channels, inner, slots, index):
    """The first element of the row that a slot is in, and its number there."""
    return (index // slots * channels + channel) * inner, index % slots


@device
def advance(row, slot, channels, inner, slots):
    """The same for the slot that is THREADS further. (No division: one of 64 bits is long.)"""
    row += THREADS // slots * (channels * inner)
    slot += THREADS % slots
    return (row, slot) if slot < slots else (row + channels * inner, slot - slots)


@device
def span_of(x, outer, channels, inner, row):
    """A row as ``simd.load_within`` wants it."""
    return vector_of(x, outer * channels * inner), row, row + inner


@kernel
def sum_parts(x, parts, table, outer, channels, inner, slots, count):
    """Moments of each part, means counted from the channel's first value, which is left where the mean will stand.

    e bytes per element of e bytes.
    """
    channel, part, begin, length = part_at(cuda.blockIdx.x, outer, slots, count)
    thread, n = cuda.threadIdx.x, 0
    origin = element(x, channel * inner)
    row, slot = place(channel, channels, inner, slots, begin + thread)
    shift = (
        element(x, min(max(row, (vector_of(x, row) + slot) * lanes(x)), row + inner - 1)) if thread < length else origin
    )
    centre, s, q = splat(x, shift), splat(x, 0), splat(x, 0)
    for _ in range(thread, length, THREADS):
        i, span = vector_of(x, row) + slot, span_of(x, outer, channels, inner, row)
        d = load_within(x, i, span, centre) - centre
        s = s + d
        q = fma(d, d, q)
        n += within(x, i, span)
        row, slot = advance(row, slot, channels, inner, slots)
    values = cast(table, n)
    numbers = shared(table, 3)
    numbers[thread] = values
    numbers[THREADS + thread] = shift - origin + total(s) / values if n > 0 else values
    numbers[2 * THREADS + thread] = total(q) - total(s) * (total(s) / values) if n > 0 else values
    merge_block(numbers, 1, 1)
    if thread < 3:
        parts[(3 * part + thread) * channels + channel] = numbers[thread * THREADS]
    if part == 0 and thread == 0:
        table[MEAN * channels + channel] = origin


@kernel
def normalize(x, residual, y, table, outer, channels, inner, slots, count, flags):
    """``y = relu((x - mean) * invstd * gamma + beta + residual)``. 2e bytes per element; a residual adds e."""
    channel, _, begin, length = part_at(cuda.gridDim.x - 1 - cuda.blockIdx.x, outer, slots, count)
    m, p, r, _ = affine(table, channels, channel)
    m, p, r = splat(x, m), splat(x, p), splat(x, r)
    row, slot = place(channel, channels, inner, slots, begin + cuda.threadIdx.x)
    for _ in range(cuda.threadIdx.x, length, THREADS):
        i, span = vector_of(x, row) + slot, span_of(x, outer, channels, inner, row)
        v = fma(load_within(x, i, span, m) - m, p, r)
        store_within(y, i, span, add_and_clip(v, residual, i, span, flags))
        row, slot = advance(row, slot, channels, inner, slots)


@kernel
def sum_gradient_parts(dy, x, y, parts, table, outer, channels, inner, slots, count, flags):
    """Sums of dy and of dy * xhat for each part; dy counts where the activation let it through.

    2e bytes per element; ReLU behind a residual adds e.
    """
    channel, part, begin, length = part_at(cuda.blockIdx.x, outer, slots, count)
    thread = cuda.threadIdx.x
    m, p, r, h = affine(table, channels, channel)
    m, p, r, h = splat(x, m), splat(x, p), splat(x, r), splat(x, h)
    s, q, nothing = splat(x, 0), splat(x, 0), splat(x, 0)
    row, slot = place(channel, channels, inner, slots, begin + thread)
    for _ in range(thread, length, THREADS):
        i, span = vector_of(x, row) + slot, span_of(x, outer, channels, inner, row)
        d = load_within(x, i, span, m) - m
        g = let_through(load_within(dy, i, span, nothing), d, p, r, y, i, span, flags)
        s = s + g
        q = fma(g, d * h, q)
        row, slot = advance(row, slot, channels, inner, slots)
    numbers = shared(table, 2)
    numbers[thread], numbers[THREADS + thread] = total(s), total(q)
    add_block(numbers, 2, 1)
    if thread < 2:
        parts[(2 * part + thread) * channels + channel] = numbers[thread * THREADS]


@kernel
def write_gradient(dy, x, y, dx, dresidual, table, gradients, outer, channels, inner, slots, count, flags):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))``, FROZEN without the means.

    3e bytes per element; ReLU behind a residual adds 2e.
    """
    channel, _, begin, length = part_at(cuda.gridDim.x - 1 - cuda.blockIdx.x, outer, slots, count)
    m, p, r, h = affine(table, channels, channel)
    u, a, b = gradient(table, gradients, channels, channel, cast(table, outer * inner))
    m, p, r, h = splat(x, m), splat(x, p), splat(x, r), splat(x, h)
    u, a, b = splat(x, u), splat(x, a), splat(x, b)
    row, slot = place(channel, channels, inner, slots, begin + cuda.threadIdx.x)
    for _ in range(cuda.threadIdx.x, length, THREADS):
        i, span = vector_of(x, row) + slot, span_of(x, outer, channels, inner, row)
        d = load_within(x, i, span, m) - m
        g = let_through(load_within(dy, i, span, u), d, p, r, y, i, span, flags)
        if flags & FROM_Y:
            store_within(dresidual, i, span, g)
        store_within(dx, i, span, g * p if flags & FROZEN else fma(g - u, p, fma(d * h, b, a)))
        row, slot = advance(row, slot, channels, inner, slots)
