"""Channels whose values lie in contiguous rows: ``(outer, channels, inner)`` with a long ``inner`` (NCHW and the like).

Where there are enough channels to go round, one thread takes a channel through both walks. The slice that it has just
read for the sums is then still in its L2 cache; the second walk goes backwards, to meet the freshest first, and asks
for the same place of the next channel ahead of its time. Channels of short rows are taken together with their
neighbours; rows that crowd a few sets of the cache are copied (``planes_source``). Where there are few channels,
threads share the parts of all of them, walk by walk. Inference has one walk, over memory in order (``planes_spans``).

How channels are cut into runs and parts depends on the shape alone (``planes_cut``), so that results do not depend on
the number of threads.
"""

import numpy as np
from numba import prange

from ...jit import device, kernel, noinline, share, thread_count
from ..flags import MEASURES, STREAMS, WRITES
from .constants import B, H, M, P, R, affine, dgamma_from, gradient, set_constants, set_gradient_constants
from .lanes import scratch, totals
from .memory import columns, fence, pointer, to_boundary, vector_length
from .moments import fill_invstd
from .parameters import fill_table, update_running
from .planes_cut import ahead_of_output, group_size, is_channelwise, part_count, run_at, runs_of, task_at, tasks_of
from .planes_outputs import write_gradient, write_normalized, write_whole_gradient, write_whole_normalized
from .planes_source import ahead_from, as_it_lies, copies_for, is_crowded, moved, reach_of_prefetch, source_of
from .planes_spans import normalize_group, normalize_span, write_group_gradient
from .planes_statistics import (
    Sums,
    add_parts,
    channel_statistics,
    first_shift,
    group_statistics,
    settle_channels,
    shared_sums,
)
from .planes_sums import channel_gradient_sums, part_gradient_sums, part_sums
from .policy import AHEAD
from .simd import splat
from .walks import DONE, IN_ORDER, OUTPUT, SUMS, WHOLE, Walk, with_streams

# Forward ------------------------------------------------------------------------------------------------------------


@device
def normalize_part(arrays, source, walk, table, channel, part):
    """``y = relu((x - mean) * scale + beta + residual)`` for one part of a channel, last row first."""
    noinline()
    x, _, y = arrays
    shape, flags, ahead = walk
    m, p, r, _ = affine(x, table, channel)
    constants = splat(m), splat(p), splat(r)
    whole = vector_length(x)
    pitch = shape[1] * shape[2]
    first, last = runs_of(source.cut, part)
    for run in range(last - 1, first - 1, -1):
        offset, rows, length = run_at(shape, source.cut, channel, run)
        move, more = moved(source, shape, channel, run)
        for row in range(rows - 1, -1, -1):
            i = offset + row * pitch
            end = i + length
            distance = move + row * more
            hop = ahead_from(source, ahead, i)
            n = to_boundary(y, i, flags & STREAMS)
            while i < end:
                n = min(n, end - i)
                write_normalized(arrays, source, i, distance, n, hop, constants, flags)
                i = write_whole_normalized(arrays, source, i + n, end, distance, hop, constants, flags)
                n = whole


@device
def forward_of_channels(arrays, walk, table, channels, group, copying, eps):
    """Both walks over a thread's channels, one group after the other."""
    shape, flags, _ = walk
    x = arrays[0]
    crowded, reach = copying
    constants = scratch(x, H + 1, shape[1] if group > 1 else np.intp(0))  # columns are counted as channels are
    sums = totals(group)
    lying, copies = as_it_lies(x, x, shape), copies_for(x, shape, group, 1, crowded)
    for start in range(channels[0], channels[1], group):
        stop = min(start + group, channels[1])
        source = source_of(lying, (start, stop), copies, reach)
        if group > 1:
            group_statistics(x, shape, (start, stop), table, eps, source, constants, sums)
            if flags & WRITES:
                set_constants(x, columns(table, start), stop - start, columns(constants, start))
                normalize_group(arrays, source, walk, (start, stop), constants)
        else:
            channel_statistics(x, shape, start, first_shift(x, shape, start), table, eps, source)
            if flags & WRITES:
                for part in range(source.cut.parts - 1, -1, -1):
                    normalize_part(arrays, source, walk, table, start, part)


@device
def forward_of_tasks(arrays, walk, table, tasks, sums, phase):
    """One of the walks over a thread's tasks, each a part of a channel."""
    source = as_it_lies(arrays[0], arrays[0], walk.shape)
    for k in range(tasks[1] - tasks[0]):
        channel, part = task_at(walk.shape, tasks, k, phase == OUTPUT)
        if phase == OUTPUT:
            normalize_part(arrays, source, walk, table, channel, part)
        elif sums.unsettled[channel]:
            s, q = part_sums(arrays[0], walk.shape, channel, part, sums.shifts[channel], source)
            sums.parts[channel, part, 0], sums.parts[channel, part, 1] = s, q


@kernel
def forward(x, residual, y, gamma, beta, running_mean, running_var, table, scalars, flags, machine, threads):
    """``y = relu((x - mean) * invstd * gamma + beta + residual)``; ``scalars`` are eps, momentum and correction.

    MEASURES fills in mean and variance, FILLS the rest of the table, from the parameters, and updates the running
    statistics in training; WRITES writes y. Parallel over channels, or over channels and parts; in inference over
    memory in order.

    2e bytes per element where a channel fits L2 (e is the itemsize), else 3e; a residual adds e. Inference: 2e.
    """
    shape, threads = x.shape, thread_count(threads)
    eps, momentum, correction = scalars
    parameters = gamma, beta, running_mean, running_var
    fill_table(parameters, table, flags)
    if flags & WRITES:
        flags = with_streams(flags, y, y, machine, threads)
    channelwise = is_channelwise(shape, threads)
    group = group_size(shape, flags)
    crowded = bool(flags & WRITES) and is_crowded(x, group, 1, machine)
    copying = crowded, reach_of_prefetch(x, group, 1, machine)
    phase = IN_ORDER if not flags & MEASURES else WHOLE if channelwise else SUMS
    ahead = np.intp(AHEAD) if phase == IN_ORDER else ahead_of_output(x, channelwise, group, 1, machine)
    shifts, unsettled, parts = shared_sums(pointer(x), shape, shape[1] if phase == SUMS else np.intp(0))
    constants = scratch(pointer(x), H + 1, shape[1] if phase == IN_ORDER else np.intp(0))
    if phase == IN_ORDER:
        fill_invstd(table, shape[1], eps)
        set_constants(pointer(x), table, shape[1], constants)
    while phase != DONE:
        for thread in prange(threads):  # which Numba lets no named tuple or pointer into
            tasks = tasks_of(shape, channelwise, thread, threads)
            arrays, walk = (pointer(x), pointer(residual), pointer(y)), Walk(shape, flags, ahead)
            if phase == IN_ORDER:
                start, stop = share(x.size, thread, threads)
                source = as_it_lies(arrays[0], arrays[0], shape)
                normalize_span(arrays, source, np.intp(0), walk, start, stop, constants)
            elif channelwise:
                forward_of_channels(arrays, walk, table, tasks, group, copying, eps)
            else:
                forward_of_tasks(arrays, walk, table, tasks, Sums(shifts, unsettled, parts), phase)
            fence()
        if phase != SUMS:
            phase = DONE
        elif not settle_channels(pointer(x), shape, Sums(shifts, unsettled, parts), table, eps):
            phase = OUTPUT if flags & WRITES else DONE
    update_running(parameters, table, momentum, correction, shape[0] * shape[2], flags)


# Backward -----------------------------------------------------------------------------------------------------------


@device
def write_part_gradient(inputs, outputs, source, walk, table, sums, channel, part):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))`` for one part, last row first."""
    noinline()
    x = inputs[1]
    shape, flags, ahead = walk
    m, p, r, h = affine(x, table, channel)
    u, a, b = gradient(x, table, channel, sums[0, channel], sums[1, channel], 1.0 / (shape[0] * shape[2]))
    constants = splat(m), splat(p), splat(r), splat(h), splat(u), splat(a), splat(b)
    whole = vector_length(x)
    pitch = shape[1] * shape[2]
    first, last = runs_of(source.cut, part)
    for run in range(last - 1, first - 1, -1):
        offset, rows, length = run_at(shape, source.cut, channel, run)
        move, more = moved(source, shape, channel, run)
        for row in range(rows - 1, -1, -1):
            i = offset + row * pitch
            end = i + length
            distance = move + row * more
            hop = ahead_from(source, ahead, i)
            n = to_boundary(outputs[0], i, flags & STREAMS)
            while i < end:
                n = min(n, end - i)
                write_gradient(inputs, outputs, source, i, distance, n, hop, constants, flags)
                i = write_whole_gradient(inputs, outputs, source, i + n, end, distance, hop, constants, flags)
                n = whole


@device
def measure_group_gradients(inputs, shape, channels, table, flags, source, constants, sums):
    """dbeta and dgamma of neighbouring channels, and from them all constants of the second walk."""
    noinline()
    x = inputs[1]
    start, stop = channels
    own, values = columns(table, start), columns(constants, start)
    set_constants(x, own, stop - start, values)
    for channel in range(start, stop):
        numbers = constants[M, channel], constants[P, channel], constants[R, channel], constants[H, channel]
        dbeta, dgamma = channel_gradient_sums(inputs, shape, channel, numbers, flags, source)
        sums[0, channel], sums[1, channel] = dbeta, dgamma
    set_gradient_constants(x, own, columns(sums, start), stop - start, 1.0 / (shape[0] * shape[2]), values)


@device
def backward_of_channels(inputs, outputs, walk, table, sums, channels, group, copying):
    """Both walks over a thread's channels, one group after the other."""
    shape, flags, _ = walk
    dy, x, _ = inputs
    crowded, reach = copying
    constants = scratch(x, B + 1, shape[1] if group > 1 else np.intp(0))
    lying, copies = as_it_lies(x, dy, shape), copies_for(x, shape, group, 2, crowded)
    for start in range(channels[0], channels[1], group):
        stop = min(start + group, channels[1])
        source = source_of(lying, (start, stop), copies, reach)
        if group > 1:
            measure_group_gradients(inputs, shape, (start, stop), table, flags, source, constants, sums)
            write_group_gradient(inputs, outputs, source, walk, (start, stop), constants)
        else:
            dbeta, dgamma = channel_gradient_sums(inputs, shape, start, affine(x, table, start), flags, source)
            sums[0, start], sums[1, start] = dbeta, dgamma_from(x, table, start, dbeta, dgamma)
            for part in range(source.cut.parts - 1, -1, -1):
                write_part_gradient(inputs, outputs, source, walk, table, sums, start, part)


@device
def backward_of_tasks(inputs, outputs, walk, table, sums, tasks, parts, phase):
    """One of the walks over a thread's tasks, each a part of a channel."""
    dy, x, _ = inputs
    source = as_it_lies(x, dy, walk.shape)
    for k in range(tasks[1] - tasks[0]):
        channel, part = task_at(walk.shape, tasks, k, phase == OUTPUT)
        if phase == OUTPUT:
            write_part_gradient(inputs, outputs, source, walk, table, sums, channel, part)
        else:
            numbers = affine(x, table, channel)
            dbeta, dgamma = part_gradient_sums(inputs, walk.shape, channel, part, numbers, walk.flags, source)
            parts[channel, part, 0], parts[channel, part, 1] = dbeta, dgamma


@kernel
def backward(dy, x, y, outputs, table, flags, machine, threads):
    """``outputs``, dx (and dresidual); returns (2, channels), dbeta and dgamma. Parallel as ``forward`` is.

    3e bytes per element where a channel of x and dy fits L2, else 5e. ReLU behind a residual adds 2e where it fits,
    for y and dresidual, else 3e.
    """
    shape, threads = x.shape, thread_count(threads)
    flags = with_streams(flags, *outputs, machine, threads)
    channelwise = is_channelwise(shape, threads)
    group = group_size(shape, flags)
    ahead = ahead_of_output(x, channelwise, group, 2, machine)
    copying = is_crowded(x, group, 2, machine), reach_of_prefetch(x, group, 2, machine)
    sums = np.empty((2, shape[1]))
    parts = np.empty((0 if channelwise else shape[1], part_count(shape), 2))
    phase = WHOLE if channelwise else SUMS
    while phase != DONE:
        for thread in prange(threads):
            tasks = tasks_of(shape, channelwise, thread, threads)
            inputs, written = (pointer(dy), pointer(x), pointer(y)), (pointer(outputs[0]), pointer(outputs[1]))
            walk = Walk(shape, flags, ahead)
            if channelwise:
                backward_of_channels(inputs, written, walk, table, sums, tasks, group, copying)
            else:
                backward_of_tasks(inputs, written, walk, table, sums, tasks, parts, phase)
            fence()
        if phase == SUMS:
            for channel in range(shape[1]):
                dbeta, dgamma = add_parts(parts, channel)
                sums[0, channel], sums[1, channel] = dbeta, dgamma_from(pointer(x), table, channel, dbeta, dgamma)
        phase = OUTPUT if phase == SUMS else DONE
    return sums
