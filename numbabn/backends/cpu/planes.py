"""Channels whose values lie in contiguous rows: ``(outer, channels, inner)`` with a long ``inner`` (NCHW and the like).

A channel is ``outer`` rows of ``inner`` elements, ``channels * inner`` apart. It is read in *runs* of about 4096
elements, which are summed in vectors of their own dtype; 16 runs make a *part*, added up in float64, the piece that
one thread takes where channels are shared between threads. Runs and parts depend on the shape alone, so that results do
not depend on the number of threads.

Where there are enough channels to go round, one thread takes a channel through both walks. The slice that it has just
read for the sums is then still in its L2 cache; the second walk goes backwards, to meet the freshest first, and asks
for the same place of the next channel ahead of its time.
"""

import numpy as np
from numba import prange

from ...jit import apart, common_divisor, device, kernel, share, shared
from ..host import MEAN
from .constants import affine, dgamma_from, gradient
from .epilogue import FROM_Y, FROZEN, MEASURES, STREAMS, STREAMS_RESIDUAL, WRITES, add_and_clip, let_through
from .moments import FAR, HARD, all_true, centred, finish, finish_running, first_shift, verdict
from .policy import AHEAD, CACHE_SHARE, PLANES_GROUP, PLANES_LINE, PLANES_PART, PLANES_RUN
from .simd import cast, empty, fma, lanes_of, load, pointer, prefetch, put, settle, splat, store, to_boundary, total
from .spans import A, B, H, M, P, R, U, normalize_span, scratch, write_gradient_span

CHANNELS, SUMS, OUTPUT, DONE = range(4)
"""What all threads do at a time: both walks over channels of their own; or the first, then the second over tasks."""


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
        return (run // pieces * channels + channel) * inner + start, np.intp(1), min(PLANES_RUN, inner - start)
    rows = PLANES_RUN // inner
    first = run * rows
    return (first * channels + channel) * inner, min(rows, outer - first), inner


@device
def tasks_of(shape, channelwise, thread, threads):
    """A thread's share of the channels, or of all their parts."""
    return share(shape[1] if channelwise else shape[1] * part_count(shape), thread, threads)


@device
def is_channelwise(shape, threads):
    """Whether threads take whole channels: two or more each, or their last round leaves half of them idle."""
    return part_count(shape) == 1 or shape[1] >= 2 * threads


@device
def next_row(shape):
    """How far ahead the first walk prefetches: the channel's next row, or a page within a long one."""
    return shape[1] * shape[2] if shape[2] < PLANES_RUN else np.intp(AHEAD)


@device
def group_size(shape, flags):
    """Number of neighbouring channels that are written together: of short rows as many as give long, whole lines."""
    inner = shape[2]
    if not flags & STREAMS or inner >= PLANES_GROUP:
        return np.intp(1)
    whole = PLANES_LINE // common_divisor(inner, PLANES_LINE)
    return (PLANES_GROUP + inner * whole - 1) // (inner * whole) * whole


@device
def next_group(x, channelwise, group, arrays, cache):
    """How far ahead the second walk prefetches, which goes from the last row to the first.

    Where two groups of channels of all arrays fit the cache, to the next one; else to the row before this one.
    """
    outer, channels, inner = x.shape
    if channelwise and 2 * arrays * outer * group * inner * x.itemsize <= CACHE_SHARE * cache[0]:
        return group * inner
    return -channels * inner if inner < PLANES_RUN else np.intp(AHEAD)


@device
def fill(lanes, k, first, count, value):
    """Set lanes of a row of constants to one channel's."""
    vector = splat(value)
    for j in range(0, count, lanes_of(lanes)):
        store(lanes, k * lanes.shape[1] + first + j, count - j, vector)


# Statistics ---------------------------------------------------------------------------------------------------------


@device
def first_shifts(x, shape, channels):
    """First guesses of the means of that many channels."""
    shifts = empty(x, 1, channels).ravel()
    for channel in range(channels):
        shifts[channel] = first_shift(x, shape, channel)
    return shifts


@device
def part_sums(x, shape, channel, part, shift):
    """Sums of ``x - shift`` and of its square over one part of a channel."""
    apart()
    centre = splat(shift)
    lanes = lanes_of(x)
    pitch = shape[1] * shape[2]
    ahead = next_row(shape)
    sum_d, sum_dd = 0.0, 0.0
    first, last = runs_of(shape, part)
    for run in range(first, last):
        offset, rows, length = run_at(shape, channel, run)
        s0 = s1 = q0 = q1 = splat(cast(x, 0.0))
        for row in range(rows):
            i = offset + row * pitch
            end = i + length
            while i < end:
                prefetch(x, i + ahead)
                a = load(x, i, end - i, centre) - centre
                s0 += a
                q0 = fma(a, a, q0)
                i += lanes
                if i < end:
                    prefetch(x, i + ahead)
                    b = load(x, i, end - i, centre) - centre
                    s1 += b
                    q1 = fma(b, b, q1)
                    i += lanes
        sum_d += total(s0 + s1)
        sum_dd += total(q0 + q1)
    return sum_d, sum_dd


@device
def settle_channel(x, shape, channel, shift, s, q, table, eps):
    """Write a channel's statistics from its sums about ``shift``; False where it needs new ones, about ``table[MEAN]``.

    Lost: two passes over every run, the second about its own mean; 3.8 ms instead of 3.2 on (32, 64, 56, 56) float32
    and one thread, with errors of the variance alike (1.0e-8 and 1.4e-8).
    """
    n = float(shape[0] * shape[2])
    origin = np.float64(x[channel * shape[2]])
    judged = verdict(x, s, q, n, eps)
    mean, m2 = np.float64(shift) - origin + s / n, q - s * (s / n)
    if judged == HARD:
        mean, m2 = centred(x, shape, channel, origin)
    finish(table, channel, origin, mean, m2 / n, eps)
    return judged != FAR


@device
def channel_statistics(x, shape, channel, table, eps):
    """A channel's statistics, by one thread."""
    shift = first_shift(x, shape, channel)
    settled = False
    while not settled:
        s, q = 0.0, 0.0
        for part in range(part_count(shape)):
            part_s, part_q = part_sums(x, shape, channel, part, shift)
            s += part_s
            q += part_q
        settled = settle_channel(x, shape, channel, shift, s, q, table, eps)
        shift = cast(x, table[MEAN, channel])


@device
def settle_channels(x, shape, shifts, unsettled, parts, table, eps):
    """Statistics of every channel from its parts' sums, added in order; whether any needs new sums."""
    apart()
    for channel in range(shape[1]):
        if unsettled[channel]:
            s, q = 0.0, 0.0
            for part in range(parts.shape[1]):
                s += parts[channel, part, 0]
                q += parts[channel, part, 1]
            unsettled[channel] = not settle_channel(x, shape, channel, shifts[channel], s, q, table, eps)
            shifts[channel] = cast(x, table[MEAN, channel])
    return unsettled.any()


# Forward ------------------------------------------------------------------------------------------------------------


@device
def normalize_part(x, residual, y, shape, channel, part, table, flags, ahead):
    """``y = relu((x - mean) * scale + beta + residual)`` for one part of a channel, last row first."""
    apart()
    m, p, r, _ = affine(x, table, channel)
    m, p, r = splat(m), splat(p), splat(r)
    pitch = shape[1] * shape[2]
    first, last = runs_of(shape, part)
    for run in range(last - 1, first - 1, -1):
        offset, rows, length = run_at(shape, channel, run)
        for row in range(rows - 1, -1, -1):
            i = offset + row * pitch
            end = i + length
            n = to_boundary(y, i, flags & STREAMS)
            while i < end:
                n = min(n, end - i)
                prefetch(x, i + ahead)
                v = fma(load(x, i, n, m) - m, p, r)
                put(y, i, n, add_and_clip(v, residual, i, n, flags), flags & STREAMS)
                i += n
                n = lanes_of(x)


@device
def normalize_group(x, residual, y, shape, start, stop, table, lanes, flags, ahead):
    """The second walk over neighbouring channels at once, last row first."""
    apart()
    outer, channels, inner = shape
    for channel in range(start, stop):
        m, p, r, _ = affine(x, table, channel)
        for k, value in ((M, m), (P, p), (R, r)):
            fill(lanes, k, (channel - start) * inner, inner, value)
    for row in range(outer - 1, -1, -1):
        first, last = (row * channels + start) * inner, (row * channels + stop) * inner
        normalize_span(x, residual, y, first, last, np.intp(0), last, lanes, flags, ahead)


@device
def forward_of_channels(x, residual, y, shape, channels, group, table, eps, flags, ahead):
    """Both walks over a thread's channels, one group after the other."""
    lanes = scratch(x, R + 1, group * shape[2] if group > 1 else 0)
    for start in range(channels[0], channels[1], group):
        stop = min(start + group, channels[1])
        if flags & MEASURES:
            for channel in range(start, stop):
                channel_statistics(x, shape, channel, table, eps)
        if flags & WRITES and group > 1:
            normalize_group(x, residual, y, shape, start, stop, table, lanes, flags, ahead)
        elif flags & WRITES:
            for part in range(part_count(shape) - 1, -1, -1):
                normalize_part(x, residual, y, shape, start, part, table, flags, ahead)


@device
def forward_of_tasks(x, residual, y, shape, tasks, shifts, unsettled, parts, table, phase, flags, ahead):
    """One of the walks over a thread's tasks, each a part of a channel."""
    shares = part_count(shape)
    for k in range(tasks[1] - tasks[0]):
        task = tasks[0] + k if phase == SUMS else tasks[1] - 1 - k
        channel, part = task // shares, task % shares
        if phase == OUTPUT:
            normalize_part(x, residual, y, shape, channel, part, table, flags, ahead)
        elif unsettled[channel]:
            sums = part_sums(x, shape, channel, part, shifts[channel])
            parts[channel, part, 0], parts[channel, part, 1] = sums


@kernel
def forward(x, residual, y, table, eps, flags, cache, threads):
    """MEASURES: the table's statistics. WRITES: y. Parallel over channels, or over channels and parts.

    2e bytes per element where a channel fits L2 (e is the itemsize), else 3e; a residual adds e. Inference: 2e.
    """
    shape = x.shape
    if not flags & MEASURES:
        finish_running(table, eps)
    channelwise = is_channelwise(shape, threads)
    group = group_size(shape, flags)
    ahead = next_group(x, channelwise, group, 1, cache)
    parts = np.empty((0 if channelwise else shape[1], part_count(shape), 2))
    shifts, unsettled = first_shifts(pointer(x), shape, parts.shape[0]), all_true(parts.shape[0])
    phase = CHANNELS if channelwise else SUMS if flags & MEASURES else OUTPUT
    while phase != DONE:
        for thread in prange(threads):
            tasks = tasks_of(shape, channelwise, thread, threads)
            operands = pointer(x), pointer(residual), pointer(y)
            if channelwise:
                forward_of_channels(*operands, shape, tasks, group, table, eps, flags, ahead)
            else:
                forward_of_tasks(*operands, shape, tasks, shifts, unsettled, parts, table, phase, flags, ahead)
            settle()
        if phase != SUMS:
            phase = DONE
        elif not settle_channels(pointer(x), shape, shifts, unsettled, parts, table, eps):
            phase = OUTPUT if flags & WRITES else DONE


# Backward -----------------------------------------------------------------------------------------------------------


@device
def part_gradient_sums(inputs, shape, channel, part, table, mode):
    """Sums of dy and of dy * d * h over one part of a channel; dy counts where the activation let it through."""
    apart()
    dy, x, y = inputs
    m, p, r, h = affine(x, table, channel)
    m, p, r, h = splat(m), splat(p), splat(r), splat(h)
    zero = splat(cast(x, 0.0))
    lanes = lanes_of(x)
    pitch = shape[1] * shape[2]
    ahead = next_row(shape)
    dbeta, dgamma = 0.0, 0.0
    first, last = runs_of(shape, part)
    for run in range(first, last):
        offset, rows, length = run_at(shape, channel, run)
        s = q = zero
        for row in range(rows):
            i = offset + row * pitch
            end = i + length
            while i < end:
                prefetch(x, i + ahead)
                prefetch(dy, i + ahead)
                d = load(x, i, end - i, m) - m
                g = let_through(load(dy, i, end - i, zero), d, p, r, y, i, end - i, mode)
                s += g
                q = fma(g, d * h, q)
                i += lanes
        dbeta += total(s)
        dgamma += total(q)
    return dbeta, dgamma


@device
def write_part_gradient(inputs, outputs, shape, channel, part, table, sums, mode, ahead):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))`` for one part, last row first.

    Through running statistics (FROZEN) it is ``gamma * invstd * dy``; x counts only for ReLU's sign: a NaN stays there.
    """
    apart()
    dy, x, y = inputs
    dx, dresidual = outputs
    m, p, r, h = affine(x, table, channel)
    m, p, r, h = splat(m), splat(p), splat(r), splat(h)
    u, a, b = gradient(x, table, channel, sums[0, channel], sums[1, channel], shape[0] * shape[2])
    u, a, b = splat(u), splat(a), splat(b)
    zero = splat(cast(x, 0.0))
    pitch = shape[1] * shape[2]
    first, last = runs_of(shape, part)
    for run in range(last - 1, first - 1, -1):
        offset, rows, length = run_at(shape, channel, run)
        for row in range(rows - 1, -1, -1):
            i = offset + row * pitch
            end = i + length
            n = to_boundary(dx, i, mode & STREAMS)
            while i < end:
                n = min(n, end - i)
                prefetch(x, i + ahead)
                prefetch(dy, i + ahead)
                d = load(x, i, n, m) - m
                g = let_through(load(dy, i, n, zero), d, p, r, y, i, n, mode)
                if mode & FROM_Y:
                    put(dresidual, i, n, g, mode & STREAMS_RESIDUAL)
                g = g * p if mode & FROZEN else fma(g - u, p, fma(d * h, b, a))
                put(dx, i, n, g, mode & STREAMS)
                i += n
                n = lanes_of(x)


@device
def write_group_gradient(inputs, outputs, shape, start, stop, table, sums, lanes, mode, ahead):
    """The second walk over neighbouring channels at once, last row first."""
    apart()
    x = inputs[1]
    outer, channels, inner = shape
    for channel in range(start, stop):
        m, p, r, h = affine(x, table, channel)
        u, a, b = gradient(x, table, channel, sums[0, channel], sums[1, channel], outer * inner)
        for row, value in ((M, m), (P, p), (R, r), (H, h), (U, u), (A, a), (B, b)):
            fill(lanes, row, (channel - start) * inner, inner, value)
    for row in range(outer - 1, -1, -1):
        first, last = (row * channels + start) * inner, (row * channels + stop) * inner
        write_gradient_span(inputs, outputs, first, last, np.intp(0), last, lanes, mode, ahead)


@device
def backward_of_channels(inputs, outputs, shape, channels, group, table, sums, mode, ahead):
    """Both walks over a thread's channels, one group after the other."""
    x = inputs[1]
    lanes = scratch(x, B + 1, group * shape[2] if group > 1 else 0)
    for start in range(channels[0], channels[1], group):
        stop = min(start + group, channels[1])
        for channel in range(start, stop):
            sums[0, channel] = sums[1, channel] = 0.0
            for part in range(part_count(shape)):
                dbeta, dgamma = part_gradient_sums(inputs, shape, channel, part, table, mode)
                sums[0, channel] += dbeta
                sums[1, channel] += dgamma
            sums[1, channel] = dgamma_from(x, table, channel, sums[0, channel], sums[1, channel])
        if group > 1:
            write_group_gradient(inputs, outputs, shape, start, stop, table, sums, lanes, mode, ahead)
            continue
        for part in range(part_count(shape) - 1, -1, -1):
            write_part_gradient(inputs, outputs, shape, start, part, table, sums, mode, ahead)


@device
def backward_of_tasks(inputs, outputs, shape, tasks, table, parts, sums, phase, mode, ahead):
    """One of the walks over a thread's tasks, each a part of a channel."""
    shares = part_count(shape)
    for k in range(tasks[1] - tasks[0]):
        task = tasks[0] + k if phase == SUMS else tasks[1] - 1 - k
        channel, part = task // shares, task % shares
        if phase == OUTPUT:
            write_part_gradient(inputs, outputs, shape, channel, part, table, sums, mode, ahead)
        else:
            part_sums = part_gradient_sums(inputs, shape, channel, part, table, mode)
            parts[channel, part, 0], parts[channel, part, 1] = part_sums


@device
def add_parts(x, table, parts, sums):
    """``sums[:, channel] = dbeta, dgamma``, added up in order."""
    for channel in range(parts.shape[0]):
        sums[0, channel] = sums[1, channel] = 0.0
        for part in range(parts.shape[1]):
            sums[0, channel] += parts[channel, part, 0]
            sums[1, channel] += parts[channel, part, 1]
        sums[1, channel] = dgamma_from(x, table, channel, sums[0, channel], sums[1, channel])


@kernel
def backward(dy, x, y, dx, dresidual, table, mode, cache, threads):
    """dx (and dresidual); returns dbeta and dgamma. Parallel over channels, or over channels and parts.

    3e bytes per element where a channel of x and dy fits L2, else 5e. ReLU behind a residual adds 2e where it fits,
    for y and dresidual, else 3e.
    """
    shape = x.shape
    channelwise = is_channelwise(shape, threads)
    group = group_size(shape, mode)
    ahead = next_group(x, channelwise, group, 2, cache)
    sums = np.empty((2, shape[1]))
    parts = np.empty((0 if channelwise else shape[1], part_count(shape), 2))
    phase = CHANNELS if channelwise else SUMS
    while phase != DONE:
        for thread in prange(threads):
            tasks = tasks_of(shape, channelwise, thread, threads)
            inputs, outputs = (pointer(dy), pointer(x), pointer(y)), (pointer(dx), pointer(dresidual))
            if channelwise:
                backward_of_channels(inputs, outputs, shape, tasks, group, table, sums, mode, ahead)
            else:
                backward_of_tasks(inputs, outputs, shape, tasks, table, parts, sums, phase, mode, ahead)
            settle()
        if phase == SUMS:
            add_parts(pointer(x), table, parts, sums)
        phase = OUTPUT if phase == SUMS else DONE
    return sums
