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
from .block import arrivals, arrive, leave, shared
from .constants import without_missing
from .policy import SETTLERS, THREADS
from .simd import cast
from .toolkit import cuda, device, kernel

exact_sum = device(_exact_sum)

KINDS = {"settle": "nnppppiiffffi", "settle_gradients": "nnnpii"}
"""Of the kernels' arguments (see ``launch.launcher``)."""

HAS_GAMMA, HAS_BETA, HAS_RUNNING, KEEPS = 128, 256, 512, 1024
"""Flags beside those of all backends: which parameters there are; whether a kernel on chip leaves the table."""


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
def merge_block(sums, lanes, width):
    """Merge the moments of a block's threads that are a multiple of ``width`` apart, for each lane.

    ``sums`` has three rows of a column for each lane and thread.
    """
    thread, row = cuda.threadIdx.x, THREADS * lanes
    half = THREADS // 2
    while half >= width:
        cuda.syncthreads()
        if thread < half:
            for lane in range(lanes):
                i = lane * THREADS + thread
                j = i + half
                n, mean, m2 = sums[i], sums[row + i], sums[2 * row + i]
                n, mean, m2 = merged(n, mean, m2, sums[j], sums[row + j], sums[2 * row + j])
                sums[i], sums[row + i], sums[2 * row + i] = n, mean, m2
        half //= 2
    cuda.syncthreads()


@device
def add_block(sums, columns, width):
    """Add what a block's threads have that are a multiple of ``width`` apart, in so many columns for each thread."""
    thread = cuda.threadIdx.x
    half = THREADS // 2
    while half >= width:
        cuda.syncthreads()
        if thread < half:
            for column in range(columns):
                sums[column * THREADS + thread] += sums[column * THREADS + thread + half]
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
def merge_columns(parts, sums, count, channels, first, columns):
    """The moments of all parts together, of the ``columns`` channels from ``first`` on, side by side in three rows."""
    thread = cuda.threadIdx.x
    channel = min(first + thread % columns, channels - 1)
    n, mean, m2 = merge_parts(parts, count, channels, channel, thread // columns, THREADS // columns)
    sums[thread], sums[THREADS + thread], sums[2 * THREADS + thread] = n, mean, m2
    merge_block(sums, 1, columns)


@device
def add_columns(parts, sums, count, channels, first, columns):
    """The sums of all parts together, of the ``columns`` channels from ``first`` on, side by side in two rows."""
    thread = cuda.threadIdx.x
    channel = min(first + thread % columns, channels - 1)
    s, q = add_parts(parts, count, channels, channel, thread // columns, THREADS // columns)
    sums[thread], sums[THREADS + thread] = s, q
    add_block(sums, 2, columns)


@device
def team_barrier(counters, team, size):
    """Wait until all blocks of a team have come here; what each of them wrote before, all can read then.

    The last one that leaves sets their counter back to 0. A launch uses a counter for one meeting: a block that came
    again before all others have left would be counted among them.
    """
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        arrive(counters, team, size)
        while arrivals(counters, team) < size:
            pass
        leave(counters, team, size)
    cuda.syncthreads()


@device
def parameters_of(table, parameters, channel, flags):
    """A channel's gamma, beta and running statistics, all loaded at once: one after the other, each would be waited
    for. (Where there are none, something else can be read, and is not used.)"""
    gamma, beta, running_mean, running_var = parameters
    scale, offset = cast(table, gamma[channel]), cast(table, beta[channel])
    mean, var = cast(table, running_mean[channel]), cast(table, running_var[channel])
    scale, offset = scale if flags & HAS_GAMMA else cast(table, 1), offset if flags & HAS_BETA else cast(table, 0)
    return scale, offset, mean, var


@device
def settle_channel(measured, values, table, columns, column, running, channel, eps, weights, flags):
    """A channel's column of a table of so many, and its running statistics.

    MEASURES takes its statistics from what is ``measured``, a count, a mean in two terms and a sum of squared
    deviations, and lets them enter the running ones; else it copies these. ``values`` are its ``parameters_of``.
    """
    n, origin, mean, m2 = measured
    scale, offset, old_mean, old_var = values
    running_mean, running_var = running
    old, new_mean, new_var = weights
    if flags & MEASURES:
        mean, rest = exact_sum(origin, mean)
        var = m2 / n if n > 0 else cast(table, math.nan)
        mean = mean if n > 0 else var  # there is no first value, either
    else:
        mean, rest, var = old_mean, cast(table, 0), old_var
    wide = var + eps
    table[MEAN * columns + column] = mean
    table[REST * columns + column] = rest
    table[VAR * columns + column] = var
    table[INVSTD * columns + column] = cast(table, 1) / math.sqrt(wide) if wide >= 0 else cast(table, math.nan)
    if flags & FILLS:
        table[GAMMA * columns + column], table[BETA * columns + column] = scale, offset
    if flags & MEASURES and flags & HAS_RUNNING:
        running_mean[channel] = cast(running_mean, old * old_mean + new_mean * mean)
        running_var[channel] = cast(running_var, old * old_var + new_var * var)


@device
def without_lost(s, q, table, channels, channel):
    """The sum of dy * xhat, once what the mean lost is taken off; ``s`` is that of dy."""
    return without_missing(q, table[REST * channels + channel] * table[INVSTD * channels + channel], s)


@kernel
def settle(parts, table, gamma, beta, running_mean, running_var, count, channels, eps, old, new_mean, new_var, flags):
    """The table, from the moments of all parts. 12 bytes per part and channel in float32.

    Parallel over channels: a block has some side by side, a few threads for each. (13 numbers and pointers: as tuples
    they would be arguments of a launch all the same.)
    """
    width, sums = THREADS // SETTLERS, shared(table, 3, THREADS)
    first, thread = cuda.blockIdx.x * width, cuda.threadIdx.x
    channel = min(first + thread % width, channels - 1)
    origin = table[MEAN * channels + channel]
    values = parameters_of(table, (gamma, beta, running_mean, running_var), channel, flags)
    if flags & MEASURES:
        merge_columns(parts, sums, count, channels, first, width)
    if thread < width and first + thread < channels:
        measured = sums[thread], origin, sums[THREADS + thread], sums[2 * THREADS + thread]
        running, weights = (running_mean, running_var), (old, new_mean, new_var)
        settle_channel(measured, values, table, channels, channel, running, channel, eps, weights, flags)


@kernel
def settle_gradients(parts, table, gradients, dbeta_dgamma, count, channels):
    """dbeta and dgamma from the sums of all parts, as computed and as given away. 8 bytes per part and channel in
    float32; parallel as ``settle``."""
    width, sums = THREADS // SETTLERS, shared(table, 2, THREADS)
    first, thread = cuda.blockIdx.x * width, cuda.threadIdx.x
    channel = min(first + thread % width, channels - 1)
    add_columns(parts, sums, count, channels, first, width)
    if thread < width and first + thread < channels:
        s = sums[thread]
        q = without_lost(s, sums[THREADS + thread], table, channels, channel)
        gradients[channel], gradients[channels + channel] = s, q
        dbeta_dgamma[channel], dbeta_dgamma[channels + channel] = cast(dbeta_dgamma, s), cast(dbeta_dgamma, q)
