"""The first walk of ``rows``: sums over one part of a tile, row by row, a vector of lanes at a time.

Sums of a run are in the dtype of the data, and in memory; those of a part are float64. Tried and dropped: four rows at
a time, whose sums stay in registers meanwhile; no faster.
"""

from ...jit import device, noinline
from ..flags import FROM_X
from .constants import H, M, P, R
from .epilogue import let_through
from .lanes import add_run, clear, clear_run
from .memory import cast, load, prefetch, store, vector_length
from .policy import ROWS_RUN
from .rows_cut import ahead_in_part, filled_lanes, row_width, rows_of
from .simd import fma, splat


@device
def run_sums(x, rows, pitch, tile, constants, run, ahead):
    """Sums of ``x - shift`` and of its square over ``rows``, a range; the shifts are in row M."""
    noinline()
    low, high, at = tile
    size = vector_length(x)
    zero = splat(cast(x, 0.0))
    clear_run(run, high - low)
    for row in rows:
        i = row * pitch + low
        for j in range(0, high - low, size):
            prefetch(x, i + j + ahead)
            d = load(x, i + j, high - low - j, zero) - load(constants, low - at + j, size, zero)
            store(run, 2 * j, size, load(run, 2 * j, size, zero) + d)
            store(run, 2 * j + size, size, fma(d, d, load(run, 2 * j + size, size, zero)))


@device
def part_sums(x, shape, part, tile, constants, run, out):
    """``out[:, lane - at]``: the same over one part."""
    noinline()
    first, last, filled = rows_of(shape, part)
    width = row_width(shape)
    ahead = ahead_in_part(width, tile)
    start = tile.low - tile.at
    clear(out, start, tile.high - tile.at)
    tile = filled_lanes(tile, filled)
    for row in range(first, last, ROWS_RUN):
        run_sums(x, range(row, min(last, row + ROWS_RUN)), width, tile, constants, run, ahead)
        add_run(run, tile.high - tile.low, out, start)


@device
def run_gradient_sums(inputs, rows, width, tile, constants, run, flags, ahead):
    """Sums of dy and of dy * d * h over ``rows``, a range; dy counts where the activation let it through."""
    noinline()
    dy, x, y = inputs
    low, high, at = tile
    size, pitch = vector_length(x), constants.shape[1]
    zero = splat(cast(x, 0.0))
    clear_run(run, high - low)
    for row in rows:
        for j in range(0, high - low, size):
            i, lane, n = row * width + low + j, low - at + j, high - low - j
            prefetch(x, i + ahead)
            prefetch(dy, i + ahead)
            m = load(constants, M * pitch + lane, size, zero)
            p = load(constants, P * pitch + lane, size, zero) if flags & FROM_X else zero
            r = load(constants, R * pitch + lane, size, zero) if flags & FROM_X else zero
            d = load(x, i, n, m) - m
            g = let_through(load(dy, i, n, zero), d, p, r, y, i, n, flags)
            scaled = d * load(constants, H * pitch + lane, size, zero)
            store(run, 2 * j, size, load(run, 2 * j, size, zero) + g)
            store(run, 2 * j + size, size, fma(g, scaled, load(run, 2 * j + size, size, zero)))


@device
def part_gradient_sums(inputs, shape, part, tile, constants, run, out, flags):
    """``out[:, lane - at]``: the same over one part."""
    noinline()
    first, last, filled = rows_of(shape, part)
    width = row_width(shape)
    ahead = ahead_in_part(width, tile)
    start = tile.low - tile.at
    clear(out, start, tile.high - tile.at)
    tile = filled_lanes(tile, filled)
    for row in range(first, last, ROWS_RUN):
        run_gradient_sums(inputs, range(row, min(last, row + ROWS_RUN)), width, tile, constants, run, flags, ahead)
        add_run(run, tile.high - tile.low, out, start)
