"""Sums of a block's threads put together, and of blocks; statistics of channels from them.

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
from .simd import arrivals, arrive, cast, shared
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


@device
def merge_parts(parts, count, channels, channel, first, step):
    """The moments of every ``step``-th part of a channel together."""
    n = mean = m2 = cast(parts, 0)
    for part in range(first, count, step):
        at = 3 * part * channels + channel
        n, mean, m2 = merged(n, mean, m2, parts[at], parts[at + channels], parts[at + 2 * channels])
    return n, mean, m2


@device
def add_parts(parts, count, channels, channel, first, step):
    """The sums of every ``step``-th part of a channel together."""
    s = q = cast(parts, 0)
    for part in range(first, count, step):
        s += parts[2 * part * channels + channel]
        q += parts[(2 * part + 1) * channels + channel]
    return s, q


@device
def meet(counters, team, count):
    """Wait until all blocks of a team have come here; what each of them has written before, all can read then."""
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        arrive(counters, team)
        while arrivals(counters, team) < count:
            pass
    cuda.syncthreads()


@device
def settle_channel(measured, table, columns, column, parameters, channel, eps, weights, flags):
    """A channel's column of a table of so many. MEASURES takes its statistics from what is ``measured``, a count, a
    mean in two terms and a sum of squared deviations, and lets them enter the running ones; else it copies these."""
    n, origin, mean, m2 = measured
    gamma, beta, running_mean, running_var = parameters
    old, new_mean, new_var = weights
    if flags & MEASURES:
        mean, rest = exact_sum(origin, mean)
        var = m2 / n if n > 0 else cast(table, math.nan)
        mean = mean if n > 0 else var  # there is no first value, either
    else:
        mean, rest, var = cast(table, running_mean[channel]), cast(table, 0), cast(table, running_var[channel])
    table[MEAN * columns + column] = mean
    table[REST * columns + column] = rest
    table[VAR * columns + column] = var
    wide = var + eps
    table[INVSTD * columns + column] = cast(table, 1) / math.sqrt(wide) if wide >= 0 else cast(table, math.nan)
    if flags & FILLS:
        scale, offset = cast(table, 1), cast(table, 0)
        if flags & HAS_GAMMA:
            scale = cast(table, gamma[channel])
        if flags & HAS_BETA:
            offset = cast(table, beta[channel])
        table[GAMMA * columns + column], table[BETA * columns + column] = scale, offset
    if flags & MEASURES and flags & HAS_RUNNING:
        running_mean[channel] = cast(running_mean, old * running_mean[channel] + new_mean * mean)
        running_var[channel] = cast(running_var, old * running_var[channel] + new_var * var)


@device
def without_lost(s, q, table, channels, channel):
    """The sum of dy * xhat, once what the mean lost is taken off; ``s`` is that of dy."""
    lost = table[REST * channels + channel] * table[INVSTD * channels + channel]
    return q - lost * s if s != 0 else q  # of no values, lost is NaN and the sums are 0


@kernel
def settle(parts, count, table, gamma, beta, running_mean, running_var, channels, eps, old, new_mean, new_var, flags):
    """The table, from the moments of all parts.

    A block has some channels side by side, a few threads for each. (13 numbers and pointers: as tuples they would be
    arguments of a launch all the same.)
    """
    thread, width = cuda.threadIdx.x, THREADS // SETTLERS
    channel = cuda.blockIdx.x * width + thread % width
    n = mean = m2 = cast(table, 0)
    if flags & MEASURES and channel < channels:
        n, mean, m2 = merge_parts(parts, count, channels, channel, thread // width, SETTLERS)
    numbers = shared(table, 3, THREADS)
    numbers[thread], numbers[THREADS + thread], numbers[2 * THREADS + thread] = n, mean, m2
    merge_block(numbers, 1, width)
    if thread < width and channel < channels:
        origin = table[MEAN * channels + channel]
        measured = numbers[thread], origin, numbers[THREADS + thread], numbers[2 * THREADS + thread]
        parameters = gamma, beta, running_mean, running_var
        weights = old, new_mean, new_var
        settle_channel(measured, table, channels, channel, parameters, channel, eps, weights, flags)


@kernel
def settle_gradients(parts, count, table, gradients, given, channels):
    """dbeta and dgamma from the sums of all parts; blocks as in ``settle``."""
    thread, width = cuda.threadIdx.x, THREADS // SETTLERS
    channel = cuda.blockIdx.x * width + thread % width
    s = q = cast(table, 0)
    if channel < channels:
        s, q = add_parts(parts, count, channels, channel, thread // width, SETTLERS)
    numbers = shared(table, 2, THREADS)
    numbers[thread], numbers[THREADS + thread] = s, q
    add_block(numbers, 2, width)
    if thread < width and channel < channels:
        s = numbers[thread]
        q = without_lost(s, numbers[THREADS + thread], table, channels, channel)
        gradients[channel], gradients[channels + channel] = s, q
        given[channel], given[channels + channel] = cast(given, s), cast(given, q)
