"""Channels whose values lie in contiguous rows: ``(outer, channels, inner)``, ``inner`` above 1 (NCHW and the like).

A row is a number of vectors, ``slots``. In ragged memory rows begin and end within vectors: the first and the last of a
row's slots are then shared with other channels, and some last ones are of no row.

A block takes a part of a channel: so many of its slots, counted row after row. Where blocks can hold their parts on
chip, one launch does it all: those of a channel are a team, which puts its sums together. Else three do, and the second
walk takes the parts in the opposite order, so as to meet in the L2 cache what the first has read last.
"""

from ..flags import MEASURES, WRITES
from ..host import MEAN
from .constants import affine, gradient
from .moments import (
    HAS_RUNNING,
    add_block,
    add_parts,
    meet,
    merge_block,
    merge_parts,
    settle_channel,
    without_lost,
)
from .planes_walks import fetch_slots, normalize_slots, sum_gradient_slots, sum_slots, write_gradient_slots
from .policy import THREADS
from .simd import arrived, cast, element, on_chip, shared
from .toolkit import cuda, device, kernel

KINDS = {
    "sum_parts": "dnnlllli",
    "normalize": "dddnllllii",
    "sum_gradient_parts": "dddnnllllii",
    "write_gradient": "dddddnnllllii",
    "forward_on_chip": "dddnppppnclllliffffi",
    "backward_on_chip": "dddddnpncllllii",
}
"""Of the kernels' arguments (see ``launch.launcher``)."""


@device
def part_at(block, sizes, count):
    """A block's channel and part, and the first of its slots and how many there are."""
    outer, _, _, slots = sizes
    channel, part = block // count, block % count
    begin = outer * slots * part // count
    return channel, part, begin, outer * slots * (part + 1) // count - begin


@device
def leave(parts, numbers, rows, part, channels, channel):
    """Write what the block's threads have put together in some rows of shared memory as a part's sums."""
    if cuda.threadIdx.x < rows:
        parts[(rows * part + cuda.threadIdx.x) * channels + channel] = numbers[cuda.threadIdx.x * THREADS]


@kernel
def sum_parts(x, parts, table, outer, channels, inner, slots, count):
    """Moments of each part, means counted from the channel's first value, which is left where the mean will stand.

    e bytes per element of e bytes.
    """
    sizes = outer, channels, inner, slots
    channel, part, begin, length = part_at(cuda.blockIdx.x, sizes, count)
    origin, numbers = element(x, channel * inner), shared(table, 3, THREADS)
    sum_slots(x, origin, numbers, sizes, channel, begin, length)
    merge_block(numbers, 1, 1)
    leave(parts, numbers, 3, part, channels, channel)
    if part == 0 and cuda.threadIdx.x == 0:
        table[MEAN * channels + channel] = origin


@kernel
def normalize(x, residual, y, table, outer, channels, inner, slots, count, flags):
    """``y = relu((x - mean) * invstd * gamma + beta + residual)``. 2e bytes per element; a residual adds e."""
    sizes = outer, channels, inner, slots
    channel, _, begin, length = part_at(cuda.gridDim.x - 1 - cuda.blockIdx.x, sizes, count)
    normalize_slots(x, residual, y, affine(table, channels, channel), sizes, channel, begin, length, flags)


@kernel
def sum_gradient_parts(dy, x, y, parts, table, outer, channels, inner, slots, count, flags):
    """Sums of dy and of dy * xhat for each part; dy counts where the activation let it through.

    2e bytes per element; ReLU behind a residual adds e.
    """
    sizes = outer, channels, inner, slots
    channel, part, begin, length = part_at(cuda.blockIdx.x, sizes, count)
    constants, numbers = affine(table, channels, channel), shared(table, 2, THREADS)
    sum_gradient_slots(dy, x, y, constants, numbers, sizes, channel, begin, length, flags)
    add_block(numbers, 2, 1)
    leave(parts, numbers, 2, part, channels, channel)


@kernel
def write_gradient(dy, x, y, dx, dresidual, table, gradients, outer, channels, inner, slots, count, flags):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))``, FROZEN without the means.

    3e bytes per element; ReLU behind a residual adds 2e.
    """
    sizes = outer, channels, inner, slots
    channel, _, begin, length = part_at(cuda.gridDim.x - 1 - cuda.blockIdx.x, sizes, count)
    constants, sums = affine(table, channels, channel), (gradients[channel], gradients[channels + channel])
    terms = gradient(table, sums, channels, channel, cast(table, outer * inner))
    write_gradient_slots(dy, x, y, dx, dresidual, constants, terms, sizes, channel, begin, length, flags)


@kernel
def forward_on_chip(
    x, residual, y, table, gamma, beta, running_mean, running_var, parts, counters,
    outer, channels, inner, slots, count, eps, old, new_mean, new_var, flags,
):  # fmt: skip
    """``sum_parts``, ``moments.settle`` and ``normalize`` in one, which read x once; y if WRITES.

    2e bytes per element; a residual adds e.
    """
    sizes, numbers, held = (outer, channels, inner, slots), shared(table, 3, THREADS), on_chip(x, 0)
    thread = cuda.threadIdx.x
    for block in range(cuda.blockIdx.x, channels * count, cuda.gridDim.x):
        channel, part, begin, length = part_at(block, sizes, count)
        origin = element(x, channel * inner)
        fetch_slots(held, x, sizes, channel, begin, length)
        arrived()
        if flags & MEASURES:
            sum_slots(held, origin, numbers, sizes, channel, begin, length)
            merge_block(numbers, 1, 1)
        if flags & MEASURES and count > 1:
            leave(parts, numbers, 3, part, channels, channel)
            meet(counters, channel, count)
            n, mean, m2 = merge_parts(parts, count, channels, channel, thread, THREADS)
            numbers[thread], numbers[THREADS + thread], numbers[2 * THREADS + thread] = n, mean, m2
            merge_block(numbers, 1, 1)
        if thread == 0:
            measured = numbers[0], origin, numbers[THREADS], numbers[2 * THREADS]
            parameters, weights = (gamma, beta, running_mean, running_var), (old, new_mean, new_var)
            asked = flags if part == 0 else flags & ~HAS_RUNNING
            settle_channel(measured, numbers, 1, 0, parameters, channel, eps, weights, asked)
        cuda.syncthreads()
        if part == 0 and thread == 0:
            for k in range(6):
                table[k * channels + channel] = numbers[k]
        if flags & WRITES:
            normalize_slots(held, residual, y, affine(numbers, 1, 0), sizes, channel, begin, length, flags)
        cuda.syncthreads()


@kernel
def backward_on_chip(
    dy, x, y, dx, dresidual, table, given, parts, counters, outer, channels, inner, slots, count, flags
):
    """``sum_gradient_parts``, ``moments.settle_gradients`` and ``write_gradient`` in one, which read dy and x once.

    3e bytes per element; ReLU behind a residual adds 2e, and one more read of y, by then in the L2 cache.
    """
    sizes, numbers, thread = (outer, channels, inner, slots), shared(table, 2, THREADS), cuda.threadIdx.x
    held, held_dy = on_chip(x, 0), on_chip(dy, (outer * slots + count - 1) // count)
    for block in range(cuda.blockIdx.x, channels * count, cuda.gridDim.x):
        channel, part, begin, length = part_at(block, sizes, count)
        fetch_slots(held, x, sizes, channel, begin, length)
        fetch_slots(held_dy, dy, sizes, channel, begin, length)
        constants = affine(table, channels, channel)
        arrived()
        sum_gradient_slots(held_dy, held, y, constants, numbers, sizes, channel, begin, length, flags)
        add_block(numbers, 2, 1)
        if count > 1:
            leave(parts, numbers, 2, part, channels, channel)
            meet(counters, channel, count)
            numbers[thread], numbers[THREADS + thread] = add_parts(parts, count, channels, channel, thread, THREADS)
            add_block(numbers, 2, 1)
        s = numbers[0]
        q = without_lost(s, numbers[THREADS], table, channels, channel)
        if part == 0 and thread == 0:
            given[channel], given[channels + channel] = cast(given, s), cast(given, q)
        terms = gradient(table, (s, q), channels, channel, cast(table, outer * inner))
        write_gradient_slots(held_dy, held, y, dx, dresidual, constants, terms, sizes, channel, begin, length, flags)
        cuda.syncthreads()
