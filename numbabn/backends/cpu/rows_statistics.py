"""Statistics of ``rows``: from sums over a tile of all rows, about a first guess of the means, or a second one."""

import numpy as np

from ...jit import device, noinline
from ..host import MEAN
from .constants import SHIFT, M
from .lanes import add_lanes, add_run, add_sums, all_true, clear, spread
from .memory import pointer_to
from .moments import finite_shift, settle, settle_all
from .policy import SAMPLES
from .rows_cut import channels_of, part_count, row_width
from .rows_sums import part_sums, run_sums


@device
def first_shifts(x, shape, tile, work):
    """First guesses of the means of a tile's channels, for each lane, from some rows spread over the array."""
    noinline()
    outer, channels, inner = shape
    width = row_width(shape)
    whole = outer * channels * inner // width
    first, stop = channels_of(shape, tile)
    origins = pointer_to(x, first * inner)
    lanes = tile.high - tile.low
    for c in range(stop - first):
        work.by_channel[M, c] = origins[c * inner]
    if whole > 0:
        wanted = SAMPLES * channels // width + 1
        samples = min(whole, wanted)
        step = max(1, whole // wanted)
        spread(work.by_channel, SHIFT, work.by_lane, shape, lanes)
        run_sums(x, range(0, samples * step, step), width, tile, work.by_lane, work.run, np.intp(0))
        clear(work.sums, np.intp(0), lanes)
        add_run(work.run, lanes, work.sums, np.intp(0))
        add_lanes(work.sums, shape, lanes)
        n = samples * (width // channels)
        for c in range(stop - first):
            work.by_channel[M, c] = finite_shift(x, np.float64(origins[c * inner]), work.sums[0, c] / n)
    spread(work.by_channel, SHIFT, work.by_lane, shape, lanes)


@device
def settle_channels(x, shape, tile, unsettled, work, table, eps):
    """Statistics of a tile's channels, the table's, from their sums; whether any needs new ones, about a new shift."""
    noinline()
    first, stop = channels_of(shape, tile)
    x = pointer_to(x, first * shape[2])
    shifts = work.by_channel[M]
    if unsettled.all() and settle_all(x, shape, stop - first, shifts, work.sums, table, eps):
        return False
    for c in range(stop - first):
        if unsettled[c]:
            unsettled[c] = not settle(x, shape, c, shifts[c], work.sums[0, c], work.sums[1, c], table, eps)
            shifts[c] = table[MEAN, c]
    left = unsettled.any()
    if left:
        spread(work.by_channel, SHIFT, work.by_lane, shape, tile.high - tile.low)
    return left


@device
def tile_statistics(x, shape, tile, work, table, eps):
    """Statistics of a tile's channels, the table's, by one thread."""
    first, stop = channels_of(shape, tile)
    unsettled = all_true(stop - first)
    lanes = tile.high - tile.low
    first_shifts(x, shape, tile, work)
    left = True
    while left:
        clear(work.sums, np.intp(0), lanes)
        for part in range(part_count(shape)):
            part_sums(x, shape, part, tile, work.by_lane, work.run, work.partial)
            add_sums(work.partial, lanes, work.sums)
        add_lanes(work.sums, shape, lanes)
        left = settle_channels(x, shape, tile, unsettled, work, table, eps)
