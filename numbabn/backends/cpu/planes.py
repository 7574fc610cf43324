"""Channels whose values lie in contiguous rows: ``(outer, channels, inner)`` with a long ``inner`` (NCHW and the like).

A channel is ``outer`` rows of ``inner`` elements, ``channels * inner`` apart. It is read in *runs* of about 4096
elements, which are summed in vectors of their own dtype and merged in float64; 16 runs make a *part*, the piece that
one thread takes where a channel is shared between threads. Runs and parts depend on the shape alone, so that results
do not depend on the number of threads.

Where there are enough channels to go round, one thread takes a channel through both walks, so that the slice which it
has just read for the sums is still in its L2 cache; the second walk goes backwards, to meet the freshest first.
"""

import numba
import numpy as np
from numba import prange

from ...jit import device, kernel, shared
from ..host import BETA, GAMMA, INVSTD, MEAN, REST
from .epilogue import FROM_Y, FROZEN, add_and_clip, let_through
from .moments import cancels, centred, finish, is_precise, merge, rounding_lost, subtract_product
from .policy import PLANES_PART, PLANES_RUN
from .simd import BYTES, fma, load, splat, store, total


@shared
def run_count(shape):
    """Number of runs in a channel: several rows each, or pieces of a row."""
    outer, _, inner = shape
    if inner > PLANES_RUN:
        return outer * ((inner + PLANES_RUN - 1) // PLANES_RUN)
    rows = PLANES_RUN // inner
    return (outer + rows - 1) // rows


@shared
def part_count(shape):
    """Number of parts in a channel."""
    return (run_count(shape) + PLANES_PART - 1) // PLANES_PART


@device
def runs_of(shape, part):
    """First run of a part, and the one behind its last."""
    return part * PLANES_PART, min((part + 1) * PLANES_PART, run_count(shape))


@device
def run_at(shape, channel, run):
    """Offset of a run's first element, its number of rows, their length."""
    outer, channels, inner = shape
    if inner > PLANES_RUN:
        pieces = (inner + PLANES_RUN - 1) // PLANES_RUN
        start = run % pieces * PLANES_RUN
        return (run // pieces * channels + channel) * inner + start, 1, min(PLANES_RUN, inner - start)
    rows = PLANES_RUN // inner
    first = run * rows
    return (first * channels + channel) * inner, min(rows, outer - first), inner


@device
def constants(table, channel, like):
    """What a walk needs of a channel, in every lane: ``d = x - m``, ``y = d * p + r``, ``xhat = d * h + k``.

    The mean is subtracted in the data's own dtype, exactly where x is close to it; what rounding the mean itself
    lost goes into ``r`` and ``k``.
    """
    cast = like.dtype.type
    m = cast(table[MEAN, channel])
    missing = rounding_lost(table[MEAN, channel], np.float64(m), table[REST, channel])
    invstd = table[INVSTD, channel]
    scale = table[GAMMA, channel] * invstd
    return (
        splat(m),
        splat(cast(scale)),
        splat(cast(subtract_product(table[BETA, channel], missing, scale))),
        splat(cast(invstd)),
        splat(cast(subtract_product(0.0, missing, invstd))),
    )


# Statistics ---------------------------------------------------------------------------------------------------------


@device
def run_sums(x, offset, rows, length, pitch, shift):
    """Sums of ``x - shift`` and of its square over a run."""
    centre = splat(shift)
    lanes = BYTES // x.itemsize
    s0 = s1 = q0 = q1 = splat(x.dtype.type(0))
    for row in range(rows):
        i = offset + row * pitch
        end = i + length
        while i < end:
            a = load(x, i, end - i, centre) - centre
            s0 += a
            q0 = fma(a, a, q0)
            i += lanes
            if i < end:
                b = load(x, i, end - i, centre) - centre
                s1 += b
                q1 = fma(b, b, q1)
                i += lanes
    return total(s0 + s1), total(q0 + q1)


@device
def part_moments(x, channel, part):
    """Count, mean (counted from the channel's first value) and M2 of one part of a channel.

    The shift is the mean so far, which makes one pass enough; where it turns out to be far from a run's own mean, the
    run (in L1 by then) is summed again. Lost: summing every run twice. On (32, 64, 56, 56) float32 and one thread it
    took 3.8 ms instead of 3.2, with errors of the variance alike (1.0e-8 and 1.4e-8).
    """
    pitch = x.shape[1] * x.shape[2]
    origin = np.float64(x[0, channel, 0])
    count, mean, m2 = 0.0, 0.0, 0.0
    first, last = runs_of(x.shape, part)
    for run in range(first, last):
        offset, rows, length = run_at(x.shape, channel, run)
        n = float(rows * length)
        shift = x.dtype.type(origin + mean)
        s, q = run_sums(x, offset, rows, length, pitch, shift)
        if cancels(s, q, n):
            shift = x.dtype.type(shift + s / n)
            s, q = run_sums(x, offset, rows, length, pitch, shift)
        if is_precise(x, q):
            run_mean, run_m2 = np.float64(shift) - origin + s / n, q - s * s / n
        else:
            run_mean, run_m2 = centred(x, origin, offset, rows, length, pitch)
        count, mean, m2 = merge(count, mean, m2, n, run_mean, run_m2)
    return count, mean, m2


@device
def merge_parts(x, parts, channel, table, eps):
    """A channel's statistics from its parts' moments, merged in order."""
    count, mean, m2 = 0.0, 0.0, 0.0
    for part in range(parts.shape[1]):
        count, mean, m2 = merge(
            count, mean, m2, parts[channel, part, 0], parts[channel, part, 1], parts[channel, part, 2]
        )
    finish(table, channel, np.float64(x[0, channel, 0]), mean, m2 / count, eps)


@kernel
def moments_of_parts(x, parts):
    """``parts[channel, part] = count, mean, M2``. Parallel over channels and parts; e bytes per element."""
    shares = parts.shape[1]
    for task in prange(x.shape[1] * shares):
        channel, part = task // shares, task % shares
        parts[channel, part, 0], parts[channel, part, 1], parts[channel, part, 2] = part_moments(x, channel, part)


@kernel
def merge_channels(x, parts, table, eps):
    """Every channel's statistics from its parts' moments. Parallel over channels."""
    for channel in prange(parts.shape[0]):
        merge_parts(x, parts, channel, table, eps)


@device
def channel_moments(x, channel, parts, table, eps):
    """The same for one channel, by one thread."""
    for part in range(parts.shape[1]):
        parts[channel, part, 0], parts[channel, part, 1], parts[channel, part, 2] = part_moments(x, channel, part)
    merge_parts(x, parts, channel, table, eps)


# Forward ------------------------------------------------------------------------------------------------------------


@device
def normalize_part(x, residual, y, channel, part, table, epilogue):
    """``y = relu((x - mean) * scale + beta + residual)`` for one part of a channel, last run first."""
    m, p, r, _, _ = constants(table, channel, x)
    lanes = BYTES // x.itemsize
    pitch = x.shape[1] * x.shape[2]
    first, last = runs_of(x.shape, part)
    for run in range(last - 1, first - 1, -1):
        offset, rows, length = run_at(x.shape, channel, run)
        for row in range(rows - 1, -1, -1):
            i = offset + row * pitch
            end = i + length
            while i < end:
                v = fma(load(x, i, end - i, m) - m, p, r)
                store(y, i, end - i, add_and_clip(v, residual, i, end - i, epilogue))
                i += lanes


@kernel
def normalize(x, residual, y, table, epilogue):
    """Write y. Parallel over channels and parts; 2e bytes per element, 3e with a residual."""
    shares = part_count(x.shape)
    for task in prange(x.shape[1] * shares):
        normalize_part(x, residual, y, task // shares, task % shares, table, epilogue)


@kernel
def forward_by_channel(x, residual, y, parts, table, eps, epilogue):
    """Statistics, then output. Parallel over channels; 2e bytes per element where a channel fits L2, else 3e.

    A residual adds e.
    """
    for channel in prange(x.shape[1]):
        channel_moments(x, channel, parts, table, eps)
        for part in range(parts.shape[1] - 1, -1, -1):
            normalize_part(x, residual, y, channel, part, table, epilogue)


# Backward -----------------------------------------------------------------------------------------------------------


@device
def part_gradient_sums(inputs, channel, part, table, mode):
    """Sums of dy and of dy * xhat over one part of a channel; dy counts where the activation let it through."""
    dy, x, y = inputs
    m, p, r, h, k = constants(table, channel, x)
    zero = splat(x.dtype.type(0))
    lanes = BYTES // x.itemsize
    pitch = x.shape[1] * x.shape[2]
    dbeta, dgamma = 0.0, 0.0
    first, last = runs_of(x.shape, part)
    for run in range(first, last):
        offset, rows, length = run_at(x.shape, channel, run)
        s = q = zero
        for row in range(rows):
            i = offset + row * pitch
            end = i + length
            while i < end:
                d = load(x, i, end - i, m) - m
                g = let_through(load(dy, i, end - i, zero), d, p, r, y, i, end - i, mode)
                s += g
                q = fma(g, fma(d, h, k), q)
                i += lanes
        dbeta += total(s)
        dgamma += total(q)
    return dbeta, dgamma


@device
def write_part_gradient(inputs, outputs, channel, part, table, sums, mode):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))`` for one part, last run first.

    Written as ``(dy - u) * p + xhat * b + a``, where ``u`` is the rounded mean of dy, and ``a`` what rounding it lost.
    Through running statistics (FROZEN) it is ``gamma * invstd * dy``; x counts only for ReLU's sign: a NaN stays there.
    """
    dy, x, y = inputs
    dx, dresidual = outputs
    m, p, r, h, k = constants(table, channel, x)
    count = x.shape[0] * x.shape[2]
    scale = table[GAMMA, channel] * table[INVSTD, channel]
    mean_dy = x.dtype.type(sums[0, channel] / count)
    u = splat(mean_dy)
    a = splat(x.dtype.type(-scale * rounding_lost(sums[0, channel] / count, np.float64(mean_dy), 0.0)))
    b = splat(x.dtype.type(-scale * sums[1, channel] / count))
    zero = splat(x.dtype.type(0))
    lanes = BYTES // x.itemsize
    pitch = x.shape[1] * x.shape[2]
    first, last = runs_of(x.shape, part)
    for run in range(last - 1, first - 1, -1):
        offset, rows, length = run_at(x.shape, channel, run)
        for row in range(rows - 1, -1, -1):
            i = offset + row * pitch
            end = i + length
            while i < end:
                d = load(x, i, end - i, m) - m
                g = let_through(load(dy, i, end - i, zero), d, p, r, y, i, end - i, mode)
                if mode & FROM_Y:
                    store(dresidual, i, end - i, g)
                g = g * p if mode & FROZEN else fma(g - u, p, fma(fma(d, h, k), b, a))
                store(dx, i, end - i, g)
                i += lanes


@device
def add_parts(parts, channel, sums):
    """``sums[:, channel] = dbeta, dgamma``, added up in order."""
    dbeta, dgamma = 0.0, 0.0
    for part in range(parts.shape[1]):
        dbeta += parts[channel, part, 0]
        dgamma += parts[channel, part, 1]
    sums[0, channel] = dbeta
    sums[1, channel] = dgamma


@kernel
def add_channels(parts, sums):
    """Every channel's sums from those of its parts. Parallel over channels."""
    for channel in prange(parts.shape[0]):
        add_parts(parts, channel, sums)


@kernel
def gradient_sums_of_parts(dy, x, y, parts, table, mode):
    """``parts[channel, part] = sum(dy), sum(dy * xhat)``. Parallel over channels and parts; 2e bytes per element.

    ReLU behind a residual adds e, for y.
    """
    shares = parts.shape[1]
    for task in prange(x.shape[1] * shares):
        channel, part = task // shares, task % shares
        parts[channel, part, 0], parts[channel, part, 1] = part_gradient_sums((dy, x, y), channel, part, table, mode)


@kernel
def write_gradient(dy, x, y, dx, dresidual, table, sums, mode):
    """dx (and dresidual) from finished sums. Parallel over channels and parts; 3e bytes per element.

    ReLU behind a residual adds 2e, for y and dresidual.
    """
    shares = part_count(x.shape)
    for task in prange(x.shape[1] * shares):
        write_part_gradient((dy, x, y), (dx, dresidual), task // shares, task % shares, table, sums, mode)


@kernel
def backward_by_channel(dy, x, y, dx, dresidual, parts, table, sums, mode):
    """Sums, then dx. Parallel over channels; 3e bytes per element where a channel of x and dy fits L2, else 5e.

    ReLU behind a residual adds 2e where they fit, else 3e.
    """
    for channel in prange(x.shape[1]):
        for part in range(parts.shape[1]):
            parts[channel, part, 0], parts[channel, part, 1] = part_gradient_sums(
                (dy, x, y), channel, part, table, mode
            )
        add_parts(parts, channel, sums)
        for part in range(parts.shape[1] - 1, -1, -1):
            write_part_gradient((dy, x, y), (dx, dresidual), channel, part, table, sums, mode)


# The family's functions ---------------------------------------------------------------------------------------------


def statistics(x, table, eps):
    """Fill the table's mean, var and invstd."""
    parts = np.empty((x.shape[1], part_count(x.shape), 3))
    moments_of_parts(x, parts)
    merge_channels(x, parts, table, eps)


def forward_training(x, residual, y, table, eps, epilogue):
    """Fill the table's statistics and write y."""
    if _by_channel(x):
        parts = np.empty((x.shape[1], part_count(x.shape), 3))
        forward_by_channel(x, residual, y, parts, table, eps, epilogue)
    else:
        statistics(x, table, eps)
        normalize(x, residual, y, table, epilogue)


def backward(dy, x, y, dx, dresidual, table, mode):
    """Write dx (and dresidual); return dbeta, dgamma."""
    channels = x.shape[1]
    parts = np.empty((channels, part_count(x.shape), 2))
    sums = np.empty((2, channels))
    if _by_channel(x):
        backward_by_channel(dy, x, y, dx, dresidual, parts, table, sums, mode)
    else:
        gradient_sums_of_parts(dy, x, y, parts, table, mode)
        add_channels(parts, sums)
        write_gradient(dy, x, y, dx, dresidual, table, sums, mode)
    return sums


def _by_channel(x):
    """Whether threads take whole channels: each must get two or more, or their last round leaves half of them idle."""
    return part_count(x.shape) == 1 or x.shape[1] >= 2 * numba.get_num_threads()
