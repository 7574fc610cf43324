"""Channels that lie side by side: ``(outer, channels, inner)`` with ``inner`` 1 (NHWC, NC) or short.

The array is read as rows of lanes, cut into parts, runs and tiles (``rows_cut``). Where a tile of all rows fits L2, one
thread takes it through both walks, and asks for the next one meanwhile. Else threads share the parts of all tiles, walk
by walk, and what lies between the walks is done by one.
"""

import numpy as np
from numba import prange

from ...jit import device, kernel, noinline
from ..host import MEAN
from .constants import affine, dgamma_from, gradient
from .flags import DONE, MEASURES, OUTPUT, SUMS, WHOLE, WRITES, Walk
from .lanes import add_lanes, add_run, add_sums, clear, padded, run_memory, spread, workspace
from .memory import fence, pointer
from .moments import all_true, finish_running, finite_shift, settle, settle_all
from .policy import ROWS_TILE, SAMPLES
from .rows_cut import (
    Tile,
    channels_of,
    part_count,
    row_width,
    rows_ahead,
    spans_of,
    task_at,
    tasks_of,
    tile_at,
    tile_width,
)
from .rows_sums import part_gradient_sums, part_sums, run_sums
from .spans import FORWARD, FORWARD_AND_H, GRADIENT, A, B, H, M, P, R, U, normalize_span, write_gradient_span

SHIFT = (M, P)
"""Range of constants: the shift that sums are taken about stands where the mean will."""


@device
def whole_rows(shape, width):
    """All lanes as one tile, or none of them if that is done tile by tile, of a width."""
    return Tile(np.intp(0), np.intp(0) if width else row_width(shape), np.intp(0))


@device
def add_parts(parts, sums):
    """``sums`` of all parts, added in order."""
    noinline()
    clear(sums, np.intp(0), parts.shape[2])
    for part in range(parts.shape[0]):
        add_sums(parts[part], parts.shape[2], sums)


@device
def set_constants(x, shape, tile, table, values):
    """Constants of a tile's channels that do not depend on the gradient."""
    noinline()
    first, stop = channels_of(shape, tile)
    for c in range(stop - first):
        values[M, c], values[P, c], values[R, c], values[H, c] = affine(x, table, first + c)


# Statistics ---------------------------------------------------------------------------------------------------------


@device
def first_shifts(x, shape, tile, work):
    """First guesses of the means of a tile's channels, for each lane, from some rows spread over the array."""
    noinline()
    outer, channels, inner = shape
    width = row_width(shape)
    whole = outer * channels * inner // width
    first, stop = channels_of(shape, tile)
    lanes = tile.high - tile.low
    for c in range(stop - first):
        work.values[M, c] = x[(first + c) * inner]
    if whole > 0:
        wanted = SAMPLES * channels // width + 1
        samples = min(whole, wanted)
        step = max(1, whole // wanted)
        spread(work.values, SHIFT, work.lanes, shape, lanes)
        run_sums(x, range(0, samples * step, step), width, tile, work.lanes, work.run, np.intp(0))
        clear(work.sums, np.intp(0), lanes)
        add_run(work.run, lanes, work.sums, np.intp(0))
        add_lanes(work.sums, shape, lanes)
        n = samples * (width // channels)
        for c in range(stop - first):
            origin = np.float64(x[(first + c) * inner])
            work.values[M, c] = finite_shift(x, origin, work.sums[0, c] / n)
    spread(work.values, SHIFT, work.lanes, shape, lanes)


@device
def settle_channels(x, shape, tile, unsettled, work, table, eps):
    """Statistics of a tile's channels from their sums; whether any needs new ones, about a shift that is then set."""
    noinline()
    first, stop = channels_of(shape, tile)
    shifts = work.values[M, : stop - first]
    if unsettled.all() and settle_all(x, shape, first, shifts, work.sums, table, eps):
        return False
    for c in range(stop - first):
        if unsettled[c]:
            s, q = work.sums[0, c], work.sums[1, c]
            unsettled[c] = not settle(x, shape, first + c, shifts[c], s, q, table, eps)
            shifts[c] = table[MEAN, first + c]
    left = unsettled.any()
    if left:
        spread(work.values, SHIFT, work.lanes, shape, tile.high - tile.low)
    return left


@device
def tile_statistics(x, shape, tile, work, table, eps):
    """Statistics of a tile's channels, by one thread."""
    first, stop = channels_of(shape, tile)
    unsettled = all_true(stop - first)
    lanes = tile.high - tile.low
    first_shifts(x, shape, tile, work)
    left = True
    while left:
        clear(work.sums, np.intp(0), lanes)
        for part in range(part_count(shape)):
            part_sums(x, shape, part, tile, work.lanes, work.run, work.partial)
            add_sums(work.partial, lanes, work.sums)
        add_lanes(work.sums, shape, lanes)
        left = settle_channels(x, shape, tile, unsettled, work, table, eps)


# Forward ------------------------------------------------------------------------------------------------------------


@device
def normalize_part(arrays, walk, part, tile, lanes):
    """The second walk over one part of a tile."""
    noinline()
    width = row_width(walk.shape)
    start, pieces, length = spans_of(walk.shape, part, tile)
    for piece in range(pieces):
        i = start + piece * width
        normalize_span(arrays, walk, i, i + length, tile.low - tile.at, width, lanes)


@device
def forward_of_tiles(arrays, shape, flags, tiles, width, table, eps):
    """Both walks over a thread's tiles, one tile after the other."""
    x = arrays[0]
    work = workspace(x, H + 1, width)
    for k in range(tiles[0], tiles[1]):
        tile = tile_at(shape, k * width, width)
        if flags & MEASURES:
            tile_statistics(x, shape, tile, work, table, eps)
        else:
            finish_running(table, channels_of(shape, tile), eps)
        if flags & WRITES:
            set_constants(x, shape, tile, table, work.values)
            spread(work.values, FORWARD, work.lanes, shape, tile.high - tile.low)
            walk = Walk(shape, flags, tile.high - tile.low)
            for part in range(part_count(shape) - 1, -1, -1):
                normalize_part(arrays, walk, part, tile, work.lanes)


@device
def forward_of_tasks(arrays, shape, flags, tasks, lanes, parts, phase):
    """One of the walks over a thread's tasks, each a part of a tile."""
    run = run_memory(arrays[0], min(row_width(shape), ROWS_TILE))
    for k in range(tasks[1] - tasks[0]):
        part, tile = task_at(shape, tasks, k, phase == OUTPUT)
        if phase == SUMS:
            part_sums(arrays[0], shape, part, tile, lanes, run, parts[part])
        else:
            normalize_part(arrays, Walk(shape, flags, rows_ahead(row_width(shape), tile)), part, tile, lanes)


@kernel
def forward(x, residual, y, table, eps, flags, cache, threads):
    """MEASURES: the table's statistics. WRITES: y. Parallel over tiles, or over parts and tiles.

    2e bytes per element (e is the itemsize) where a tile of all rows fits L2, else 3e; inference 2e. A residual adds e.
    """
    shape = x.shape
    width = tile_width(x, 1, cache, threads)
    everything = whole_rows(shape, width)
    work = workspace(pointer(x), H + 1, everything.high)
    lanes = work.lanes
    parts = np.empty((part_count(shape) if flags & MEASURES else 0, 2, padded(everything.high)))
    unsettled = all_true(shape[1])
    phase = WHOLE if width else SUMS if flags & MEASURES else OUTPUT
    if phase == SUMS:
        first_shifts(pointer(x), shape, everything, work)
    elif phase == OUTPUT:
        finish_running(table, (np.intp(0), shape[1]), eps)
    while phase != DONE:
        if phase == OUTPUT:
            set_constants(pointer(x), shape, everything, table, work.values)
            spread(work.values, FORWARD, lanes, shape, everything.high)
        for thread in prange(threads):
            tasks = tasks_of(shape, width, thread, threads)
            arrays = pointer(x), pointer(residual), pointer(y)
            if width:
                forward_of_tiles(arrays, shape, flags, tasks, width, table, eps)
            else:
                forward_of_tasks(arrays, shape, flags, tasks, lanes, parts, phase)
            fence()
        if phase != SUMS:
            phase = DONE
        else:
            add_parts(parts, work.sums)
            add_lanes(work.sums, shape, everything.high)
            if not settle_channels(pointer(x), shape, everything, unsettled, work, table, eps):
                phase = OUTPUT if flags & WRITES else DONE


# Backward -----------------------------------------------------------------------------------------------------------


@device
def finish_gradients(x, shape, tile, table, work, gradients):
    """dbeta and dgamma of a tile's channels from their sums, and the constants that follow from them, for each lane."""
    noinline()
    first, stop = channels_of(shape, tile)
    for c in range(stop - first):
        dbeta = work.sums[0, c]
        dgamma = dgamma_from(x, table, first + c, dbeta, work.sums[1, c])
        found = gradient(x, table, first + c, dbeta, dgamma, shape[0] * shape[2])
        work.values[U, c], work.values[A, c], work.values[B, c] = found
        gradients[0, first + c], gradients[1, first + c] = dbeta, dgamma
    spread(work.values, GRADIENT, work.lanes, shape, tile.high - tile.low)


@device
def write_part_gradient(inputs, outputs, walk, part, tile, lanes):
    """The second walk over one part of a tile."""
    noinline()
    width = row_width(walk.shape)
    start, pieces, length = spans_of(walk.shape, part, tile)
    for piece in range(pieces):
        i = start + piece * width
        write_gradient_span(inputs, outputs, walk, i, i + length, tile.low - tile.at, width, lanes)


@device
def backward_of_tiles(inputs, outputs, shape, flags, tiles, width, table, gradients):
    """Both walks over a thread's tiles, one tile after the other."""
    x = inputs[1]
    work = workspace(x, B + 1, width)
    for k in range(tiles[0], tiles[1]):
        tile = tile_at(shape, k * width, width)
        lanes = tile.high - tile.low
        set_constants(x, shape, tile, table, work.values)
        spread(work.values, FORWARD_AND_H, work.lanes, shape, lanes)
        clear(work.sums, np.intp(0), lanes)
        for part in range(part_count(shape)):
            part_gradient_sums(inputs, shape, part, tile, work.lanes, work.run, work.partial, flags)
            add_sums(work.partial, lanes, work.sums)
        add_lanes(work.sums, shape, lanes)
        finish_gradients(x, shape, tile, table, work, gradients)
        for part in range(part_count(shape) - 1, -1, -1):
            write_part_gradient(inputs, outputs, Walk(shape, flags, lanes), part, tile, work.lanes)


@device
def backward_of_tasks(inputs, outputs, shape, flags, tasks, lanes, parts, phase):
    """One of the walks over a thread's tasks, each a part of a tile."""
    run = run_memory(inputs[1], min(row_width(shape), ROWS_TILE))
    for k in range(tasks[1] - tasks[0]):
        part, tile = task_at(shape, tasks, k, phase == OUTPUT)
        if phase == SUMS:
            part_gradient_sums(inputs, shape, part, tile, lanes, run, parts[part], flags)
        else:
            walk = Walk(shape, flags, rows_ahead(row_width(shape), tile))
            write_part_gradient(inputs, outputs, walk, part, tile, lanes)


@kernel
def backward(dy, x, y, outputs, table, flags, cache, threads):
    """``outputs``, dx (and dresidual); returns dbeta and dgamma. Parallel over tiles, or over parts and tiles.

    3e bytes per element where a tile of all rows of x and dy fits L2, else 5e. ReLU behind a residual adds 2e where it
    fits, for y and dresidual, else 3e.
    """
    shape = x.shape
    width = tile_width(x, 2, cache, threads)
    everything = whole_rows(shape, width)
    work = workspace(pointer(x), B + 1, everything.high)
    lanes = work.lanes
    parts = np.empty((part_count(shape), 2, padded(everything.high)))
    gradients = np.empty((2, shape[1]))
    if not width:
        set_constants(pointer(x), shape, everything, table, work.values)
        spread(work.values, FORWARD_AND_H, lanes, shape, everything.high)
    phase = WHOLE if width else SUMS
    while phase != DONE:
        for thread in prange(threads):
            tasks = tasks_of(shape, width, thread, threads)
            inputs, written = (pointer(dy), pointer(x), pointer(y)), (pointer(outputs[0]), pointer(outputs[1]))
            if width:
                backward_of_tiles(inputs, written, shape, flags, tasks, width, table, gradients)
            else:
                backward_of_tasks(inputs, written, shape, flags, tasks, lanes, parts, phase)
            fence()
        if phase == SUMS:
            add_parts(parts, work.sums)
            add_lanes(work.sums, shape, everything.high)
            finish_gradients(pointer(x), shape, everything, table, work, gradients)
        phase = OUTPUT if phase == SUMS else DONE
    return gradients
