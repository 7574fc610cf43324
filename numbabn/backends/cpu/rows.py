"""Channels that lie side by side: ``(outer, channels, inner)`` with ``inner`` 1 (NHWC, NC) or short.

The array is read as rows of lanes, cut into parts, runs and tiles (``rows_cut``). Where a tile of all rows fits L2, or
rows are few, one thread takes it through both walks, and asks for the next one meanwhile. Else threads share the parts
of all tiles, walk by walk, and what lies between the walks is done by one.
"""

import numpy as np
from numba import prange

from ...jit import device, kernel, noinline, thread_count
from ..flags import MEASURES, WRITES
from .constants import FORWARD, FORWARD_AND_H, GRADIENT, B, H, set_constants, set_gradient_constants
from .lanes import add_lanes, add_sums, all_true, clear, padded, run_memory, spread, workspace
from .memory import columns, fence, pointer
from .moments import fill_invstd
from .parameters import fill_table, update_running
from .policy import ROWS_TILE
from .rows_cut import (
    ahead_in_part,
    channels_of,
    part_count,
    row_width,
    spans_of,
    task_at,
    tasks_of,
    tile_at,
    tile_width,
    whole_rows,
)
from .rows_spans import normalize_span, write_gradient_span
from .rows_statistics import first_shifts, settle_channels, tile_statistics
from .rows_sums import part_gradient_sums, part_sums
from .walks import DONE, OUTPUT, SUMS, WHOLE, Walk, with_streams


@device
def add_parts(parts, sums):
    """``sums`` of all parts, added in order."""
    noinline()
    clear(sums, np.intp(0), parts.shape[2])
    for part in range(parts.shape[0]):
        add_sums(parts[part], parts.shape[2], sums)


# Forward ------------------------------------------------------------------------------------------------------------


@device
def normalize_part(arrays, walk, part, tile, constants):
    """The second walk over one part of a tile."""
    noinline()
    width = row_width(walk.shape)
    start, pieces, length = spans_of(walk.shape, part, tile)
    for piece in range(pieces):
        i = start + piece * width
        normalize_span(arrays, walk, i, i + length, tile.low - tile.at, width, constants)


@device
def forward_of_tiles(arrays, shape, flags, tiles, width, table, eps):
    """Both walks over a thread's tiles, one tile after the other."""
    x = arrays[0]
    work = workspace(x, H + 1, width)
    for k in range(tiles[0], tiles[1]):
        tile = tile_at(shape, k * width, width)
        first, stop = channels_of(shape, tile)
        own = columns(table, first)
        if flags & MEASURES:
            tile_statistics(x, shape, tile, work, own, eps)
        else:
            fill_invstd(own, stop - first, eps)
        if flags & WRITES:
            set_constants(x, own, stop - first, work.by_channel)
            spread(work.by_channel, FORWARD, work.by_lane, shape, tile.high - tile.low)
            walk = Walk(shape, flags, tile.high - tile.low)
            for part in range(part_count(shape) - 1, -1, -1):
                normalize_part(arrays, walk, part, tile, work.by_lane)


@device
def forward_of_tasks(arrays, shape, flags, tasks, constants, parts, phase):
    """One of the walks over a thread's tasks, each a part of a tile."""
    run = run_memory(arrays[0], min(row_width(shape), ROWS_TILE))
    for k in range(tasks[1] - tasks[0]):
        part, tile = task_at(shape, tasks, k, phase == OUTPUT)
        if phase == SUMS:
            part_sums(arrays[0], shape, part, tile, constants, run, parts[part])
        else:
            normalize_part(arrays, Walk(shape, flags, ahead_in_part(row_width(shape), tile)), part, tile, constants)


@device
def settle_shared(x, shape, tile, unsettled, parts, work, table, eps):
    """Statistics of every channel from its parts' sums; whether any needs new sums."""
    add_parts(parts, work.sums)
    add_lanes(work.sums, shape, tile.high)
    return settle_channels(x, shape, tile, unsettled, work, table, eps)


@kernel
def forward(x, residual, y, gamma, beta, running_mean, running_var, table, scalars, flags, machine, threads):
    """``y = relu((x - mean) * invstd * gamma + beta + residual)``; ``scalars`` are eps, momentum and correction.

    MEASURES fills in mean and variance, FILLS the rest of the table, from the parameters, and updates the running
    statistics in training; WRITES writes y. Parallel over tiles, or over parts and tiles.
    2e bytes per element (e is the itemsize) where a tile of all rows fits L2, else 3e; inference 2e. A residual adds e.
    """
    shape, threads = x.shape, thread_count(threads)
    eps, momentum, correction = scalars
    parameters = gamma, beta, running_mean, running_var
    fill_table(parameters, table, flags)
    if flags & WRITES:
        flags = with_streams(flags, y, y, machine, threads)
    width = tile_width(x, 1, machine, threads)
    shared_tile = whole_rows(shape, width)
    work = workspace(pointer(x), H + 1, shared_tile.high)
    constants = work.by_lane
    parts = np.empty((part_count(shape) if flags & MEASURES else 0, 2, padded(shared_tile.high)))
    unsettled = all_true(shape[1])
    phase = WHOLE if width else SUMS if flags & MEASURES else OUTPUT
    if phase == SUMS:
        first_shifts(pointer(x), shape, shared_tile, work)
    elif phase == OUTPUT:
        fill_invstd(table, shape[1], eps)
    while phase != DONE:
        if phase == OUTPUT:
            set_constants(pointer(x), table, shape[1], work.by_channel)
            spread(work.by_channel, FORWARD, constants, shape, shared_tile.high)
        for thread in prange(threads):  # which Numba lets no named tuple or pointer into
            tasks = tasks_of(shape, width, thread, threads)
            arrays = pointer(x), pointer(residual), pointer(y)
            if width:
                forward_of_tiles(arrays, shape, flags, tasks, width, table, eps)
            else:
                forward_of_tasks(arrays, shape, flags, tasks, constants, parts, phase)
            fence()
        if phase != SUMS:
            phase = DONE
        elif not settle_shared(pointer(x), shape, shared_tile, unsettled, parts, work, table, eps):
            phase = OUTPUT if flags & WRITES else DONE
    update_running(parameters, table, momentum, correction, shape[0] * shape[2], flags)


# Backward -----------------------------------------------------------------------------------------------------------


@device
def finish_gradients(x, shape, tile, table, work, gradients):
    """dbeta and dgamma of a tile's channels, the table's, from their sums, and the constants made of them."""
    noinline()
    first, stop = channels_of(shape, tile)
    weight = 1.0 / (shape[0] * shape[2])
    set_gradient_constants(x, table, work.sums, stop - first, weight, work.by_channel)
    for c in range(stop - first):
        gradients[0, first + c], gradients[1, first + c] = work.sums[0, c], work.sums[1, c]
    spread(work.by_channel, GRADIENT, work.by_lane, shape, tile.high - tile.low)


@device
def write_part_gradient(inputs, outputs, walk, part, tile, constants):
    """The second walk over one part of a tile."""
    noinline()
    width = row_width(walk.shape)
    start, pieces, length = spans_of(walk.shape, part, tile)
    for piece in range(pieces):
        i = start + piece * width
        write_gradient_span(inputs, outputs, walk, i, i + length, tile.low - tile.at, width, constants)


@device
def backward_of_tiles(inputs, outputs, shape, flags, tiles, width, table, gradients):
    """Both walks over a thread's tiles, one tile after the other."""
    x = inputs[1]
    work = workspace(x, B + 1, width)
    for k in range(tiles[0], tiles[1]):
        tile = tile_at(shape, k * width, width)
        lanes = tile.high - tile.low
        first, stop = channels_of(shape, tile)
        own = columns(table, first)
        set_constants(x, own, stop - first, work.by_channel)
        spread(work.by_channel, FORWARD_AND_H, work.by_lane, shape, lanes)
        clear(work.sums, np.intp(0), lanes)
        for part in range(part_count(shape)):
            part_gradient_sums(inputs, shape, part, tile, work.by_lane, work.run, work.partial, flags)
            add_sums(work.partial, lanes, work.sums)
        add_lanes(work.sums, shape, lanes)
        finish_gradients(x, shape, tile, own, work, gradients)
        for part in range(part_count(shape) - 1, -1, -1):
            write_part_gradient(inputs, outputs, Walk(shape, flags, lanes), part, tile, work.by_lane)


@device
def backward_of_tasks(inputs, outputs, shape, flags, tasks, constants, parts, phase):
    """One of the walks over a thread's tasks, each a part of a tile."""
    run = run_memory(inputs[1], min(row_width(shape), ROWS_TILE))
    for k in range(tasks[1] - tasks[0]):
        part, tile = task_at(shape, tasks, k, phase == OUTPUT)
        if phase == SUMS:
            part_gradient_sums(inputs, shape, part, tile, constants, run, parts[part], flags)
        else:
            walk = Walk(shape, flags, ahead_in_part(row_width(shape), tile))
            write_part_gradient(inputs, outputs, walk, part, tile, constants)


@kernel
def backward(dy, x, y, outputs, table, flags, machine, threads):
    """``outputs``, dx (and dresidual); returns (2, channels), dbeta and dgamma. Parallel as ``forward`` is.

    3e bytes per element where a tile of all rows of x and dy fits L2, else 5e. ReLU behind a residual adds 2e where it
    fits, for y and dresidual, else 3e.
    """
    shape, threads = x.shape, thread_count(threads)
    flags = with_streams(flags, *outputs, machine, threads)
    width = tile_width(x, 2, machine, threads)
    shared_tile = whole_rows(shape, width)
    work = workspace(pointer(x), B + 1, shared_tile.high)
    constants = work.by_lane
    parts = np.empty((part_count(shape), 2, padded(shared_tile.high)))
    gradients = np.empty((2, shape[1]))
    if not width:
        set_constants(pointer(x), table, shape[1], work.by_channel)
        spread(work.by_channel, FORWARD_AND_H, constants, shape, shared_tile.high)
    phase = WHOLE if width else SUMS
    while phase != DONE:
        for thread in prange(threads):  # which Numba lets no named tuple or pointer into
            tasks = tasks_of(shape, width, thread, threads)
            inputs, written = (pointer(dy), pointer(x), pointer(y)), (pointer(outputs[0]), pointer(outputs[1]))
            if width:
                backward_of_tiles(inputs, written, shape, flags, tasks, width, table, gradients)
            else:
                backward_of_tasks(inputs, written, shape, flags, tasks, constants, parts, phase)
            fence()
        if phase == SUMS:
            add_parts(parts, work.sums)
            add_lanes(work.sums, shape, shared_tile.high)
            finish_gradients(pointer(x), shape, shared_tile, table, work, gradients)
        phase = OUTPUT if phase == SUMS else DONE
    return gradients
