"""Sums of a block's threads put together, and statistics of channels from the parts of all blocks.

A thread sums ``d = x - shift`` and ``d * d`` about its own first value, so that nothing cancels that the variance is
made of, and turns them into a count, a mean and a sum of squared deviations, which Chan's formula merges. Means are
counted from an origin, the channel's first value: so they keep the digits that a distant mean would take.
Source: T. Chan, G. Golub and R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
1979.
"""

import math

from ..flags import FILLS, MEASURES
from ..host import BETA, GAMMA, INVSTD, MEAN, REST, VAR
from ..host import exact_sum as _exact_sum
from .policy import SETTLERS, THREADS
from .simd import cast, shared
from .toolkit import cuda, device, kernel

exact_sum = device(_exact_sum)

KINDS = {"settle": "ninppppiffffi", "settle_gradients": "ninnpi"}
"""Of the kernels' arguments (see ``launch.launcher``)."""

HAS_GAMMA, HAS_BETA, HAS_RUNNING = 128, 256, 512
"""Flags beside those of all backends: which parameters there are."""


@device
def merged(n, mean, m2, more, other_mean, other_m2):
    """Count, mean and sum of squared deviations of two sets of values together."""
    if more > 0:
        share = more / (n + more)
        delta = other_mean - mean
        m2 += other_m2 + delta * delta * n * share
        mean += delta * share
        n += more
    return n, mean, m2


@device
def merge_block(numbers, lanes, width):
    """Merge the moments of a block's threads that are a multiple of ``width`` apart, for each lane.

    ``numbers`` has three rows of a column for each lane and thread.
    """
    thread, row = cuda.threadIdx.x, THREADS * lanes
    half = THREADS // 2
    while half >= width:
        cuda.syncthreads()
        if thread < half:
            for lane in range(lanes):
                i = lane * THREADS + thread
                j = i + half
                n, mean, m2 = numbers[i], numbers[row + i], numbers[2 * row + i]
                n, mean, m2 = merged(n, mean, m2, numbers[j], numbers[row + j], numbers[2 * row + j])
                numbers[i], numbers[row + i], numbers[2 * row + i] = n, mean, m2
        half //= 2
    cuda.syncthreads()


@device
def add_block(numbers, columns, width):
    """Add what a block's threads have that are a multiple of ``width`` apart, in so many columns for each thread."""
    thread = cuda.threadIdx.x
    half = THREADS // 2
    while half >= width:
        cuda.syncthreads()
        if thread < half:
            for column in range(columns):
                numbers[column * THREADS + thread] += numbers[column * THREADS + thread + half]
        half //= 2
    cuda.syncthreads()


@kernel
def settle(parts, count, table, gamma, beta, running_mean, running_var, channels, eps, old, new_mean, new_var, flags):
    """The table: MEASURES takes the statistics from parts, and lets them enter the running ones; else it copies these.

    A block has some channels side by side, a few threads for each. (13 numbers and pointers: as tuples they would be
    arguments of a launch all the same.)
    """
    thread, width = cuda.threadIdx.x, THREADS // SETTLERS
    channel = cuda.blockIdx.x * width + thread % width
    n = mean = m2 = cast(table, 0)
    if flags & MEASURES and channel < channels:
        for part in range(thread // width, count, SETTLERS):
            first = 3 * part * channels + channel
            n, mean, m2 = merged(n, mean, m2, parts[first], parts[first + channels], parts[first + 2 * channels])
    numbers = shared(table, 3)
    numbers[thread], numbers[THREADS + thread], numbers[2 * THREADS + thread] = n, mean, m2
    merge_block(numbers, 1, width)
    if thread < width and channel < channels:
        if flags & MEASURES:
            n, mean, m2 = numbers[thread], numbers[THREADS + thread], numbers[2 * THREADS + thread]
            mean, rest = exact_sum(table[MEAN * channels + channel], mean)
            var = m2 / n if n > 0 else cast(table, math.nan)
            mean = mean if n > 0 else var  # there is no first value, either
        else:
            mean, rest, var = cast(table, running_mean[channel]), cast(table, 0), cast(table, running_var[channel])
        table[MEAN * channels + channel] = mean
        table[REST * channels + channel] = rest
        table[VAR * channels + channel] = var
        wide = var + eps
        table[INVSTD * channels + channel] = cast(table, 1) / math.sqrt(wide) if wide >= 0 else cast(table, math.nan)
        if flags & FILLS:
            scale, offset = cast(table, 1), cast(table, 0)
            if flags & HAS_GAMMA:
                scale = cast(table, gamma[channel])
            if flags & HAS_BETA:
                offset = cast(table, beta[channel])
            table[GAMMA * channels + channel], table[BETA * channels + channel] = scale, offset
        if flags & MEASURES and flags & HAS_RUNNING:
            running_mean[channel] = cast(running_mean, old * running_mean[channel] + new_mean * mean)
            running_var[channel] = cast(running_var, old * running_var[channel] + new_var * var)


@kernel
def settle_gradients(parts, count, table, gradients, given, channels):
    """dbeta and dgamma from the sums of all parts, as computed and as given away; blocks as in ``settle``."""
    thread, width = cuda.threadIdx.x, THREADS // SETTLERS
    channel = cuda.blockIdx.x * width + thread % width
    s = q = cast(table, 0)
    if channel < channels:
        for part in range(thread // width, count, SETTLERS):
            s += parts[2 * part * channels + channel]
            q += parts[(2 * part + 1) * channels + channel]
    numbers = shared(table, 2)
    numbers[thread], numbers[THREADS + thread] = s, q
    add_block(numbers, 2, width)
    if thread < width and channel < channels:
        s, q = numbers[thread], numbers[THREADS + thread]
        lost = table[REST * channels + channel] * table[INVSTD * channels + channel]
        q = q - lost * s if s != 0 else q  # of no values, lost is NaN and the sums are 0
        gradients[channel], gradients[channels + channel] = s, q
        given[channel], given[channels + channel] = cast(given, s), cast(given, q)
