"""Channels that lie side by side: ``(outer, channels, inner)`` with ``inner`` 1 (NHWC, NC) or short.

The array is read as rows of *lanes*. A row is ``channels * inner`` elements, or several times that where this is
narrow, and lane ``l`` belongs to channel ``l // inner % channels``; nothing needs to be added across lanes until the
end, when each channel's lanes are. The rows are cut into *parts*, and summed in *runs* in their own dtype before they
are added up in float64: both by shape alone. Where rows were put together, the last may be incomplete: it is a part of
its own. The lanes are cut into *tiles*, which no sum depends on.

Where a tile of all rows fits L2, one thread takes it through both walks, and asks for the next one meanwhile.
"""

import numpy as np
from numba import prange

from ...jit import apart, common_divisor, device, kernel, share, shared
from ..host import INVSTD, MEAN, REST, VAR
from .constants import affine, dgamma_from, gradient
from .epilogue import FROM_X, MEASURES, WRITES, let_through
from .moments import (
    FAR,
    FAR_FROM,
    HARD,
    all_true,
    centred,
    exact_sum,
    finish,
    finish_running,
    finite_shift,
    least_square,
    verdict,
)
from .policy import AHEAD, CACHE_SHARE, ROWS_LANES, ROWS_PART, ROWS_PARTS, ROWS_RUN, ROWS_TILE, SAMPLES
from .simd import accumulate, cast, empty, fma, lanes_of, load, pointer, prefetch, settle, splat, store
from .spans import A, B, H, M, P, R, U, normalize_span, scratch, write_gradient_span

DOUBLE = np.zeros(1)
"""Something that is float64."""

TILES, SUMS, OUTPUT, DONE = range(4)
"""What all threads do at a time: both walks over tiles of their own; or the first, then the second over tasks."""


@shared
def row_width(shape):
    """Lanes of a row."""
    base = shape[1] * shape[2]
    return base * max(1, (ROWS_LANES + base - 1) // base)


@shared
def part_rows(shape):
    """Rows of a part."""
    width = row_width(shape)
    rows = shape[0] * shape[1] * shape[2] // width
    return max(ROWS_RUN, ROWS_PART // min(width, ROWS_TILE), (rows + ROWS_PARTS - 1) // ROWS_PARTS)


@shared
def part_count(shape):
    """Number of parts: those of whole rows, and an incomplete last row."""
    width = row_width(shape)
    total = shape[0] * shape[1] * shape[2]
    return (total // width + part_rows(shape) - 1) // part_rows(shape) + (1 if total % width else 0)


@device
def rows_of(shape, part):
    """First row of a part, the one behind its last, and how many lanes of them are filled."""
    width = row_width(shape)
    total = shape[0] * shape[1] * shape[2]
    whole = total // width
    first = part * part_rows(shape)
    return (first, min(whole, first + part_rows(shape)), width) if first < whole else (whole, whole + 1, total % width)


@device
def whole_tile(x, arrays, cache, threads):
    """Lanes of a tile of whole channels that stays in the cache between both walks, beside the next; 0 if none does.

    Rows that lie a power of two apart share few of the cache's sets: each takes the room of a whole such step.
    """
    size, ways = cache
    outer, channels, inner = x.shape
    width = row_width(x.shape)
    if width > channels * inner:
        return width if threads == 1 else np.intp(0)
    room = np.intp(CACHE_SHARE * size / (arrays * outer * x.itemsize))
    step = common_divisor(width * x.itemsize, size // ways) // x.itemsize
    lanes = min(room // 2, ROWS_TILE, (channels + 2 * threads - 1) // (2 * threads) * inner)
    lanes = max(lanes // inner, (ROWS_LANES + inner - 1) // inner) * inner
    return min(lanes, width) if max(2 * lanes, step) <= room else np.intp(0)


@device
def tasks_of(shape, tile, thread, threads):
    """A thread's share of the tiles, or of all parts of them."""
    tiles = (row_width(shape) + max(tile, 1) - 1) // max(tile, 1)
    return share(tiles if tile else part_count(shape) * common_tiles(shape), thread, threads)


@device
def common_tiles(shape):
    """Number of tiles that a part is cut into where tasks are parts of tiles."""
    return (row_width(shape) + ROWS_TILE - 1) // ROWS_TILE


@device
def lanes_of_task(shape, task):
    """The part that a task is for, its first lane and the one behind its last."""
    low = task % common_tiles(shape) * ROWS_TILE
    return task // common_tiles(shape), low, min(row_width(shape), low + ROWS_TILE)


@device
def padded(lanes):
    """Lanes of float64 sums, which a vector of float32 may overrun."""
    return (lanes + 15) // 16 * 16


@device
def wide_sums(lanes):
    """Memory for two float64 sums of each lane."""
    return empty(DOUBLE, 2, padded(lanes))


@device
def spread(values, first, last, lanes, shape, high):
    """Give rows of the constants of channels to their lanes, ``high`` of them, and the front once more behind."""
    apart()
    inner, size = shape[2], lanes_of(values)
    base = min(high, shape[1] * inner)
    zero = splat(cast(values, 0.0))
    for k in range(first, last + 1):
        start = k * lanes.shape[1]
        if inner == 1:
            for lane in range(0, base, size):
                store(lanes, start + lane, base - lane, load(values, k * values.shape[1] + lane, size, zero))
        else:
            for lane in range(0, base, inner):
                value = splat(values[k, lane // inner])
                for j in range(0, inner, size):
                    store(lanes, start + lane + j, inner - j, value)
        step = min(base, size)
        for lane in range(base, lanes.shape[1], step):
            count = min(step, lanes.shape[1] - lane)
            store(lanes, start + lane, count, load(lanes, start + lane - base, count, zero))


# Statistics ---------------------------------------------------------------------------------------------------------


@device
def run_sums(x, rows, pitch, low, high, lanes, at, sums, ahead):
    """Sums of ``x - shift`` and of its square over ``rows``, a range, a vector of each in turn; the shift is in M."""
    apart()
    size = lanes_of(x)
    zero = splat(cast(x, 0.0))
    for j in range(0, high - low, size):
        store(sums, 2 * j, size, zero)
        store(sums, 2 * j + size, size, zero)
    for row in rows:
        i = row * pitch + low
        for j in range(0, high - low, size):
            prefetch(x, i + j + ahead)
            d = load(x, i + j, high - low - j, zero) - load(lanes, low - at + j, size, zero)
            store(sums, 2 * j, size, load(sums, 2 * j, size, zero) + d)
            store(sums, 2 * j + size, size, fma(d, d, load(sums, 2 * j + size, size, zero)))


@device
def rows_ahead(width, low, high):
    """How far ahead walks prefetch that find nothing in the cache: whole rows, a page's worth of them in the tile."""
    return np.intp(AHEAD) if high - low == width else (AHEAD + high - low - 1) // (high - low) * width


@device
def clear(sums, low, high):
    """Set lanes of sums to 0."""
    for k in range(2):
        for j in range(low, high):
            sums[k, j] = 0.0


@device
def add_run(run, count, out, start):
    """Add ``count`` lanes of a run's sums to rows of ``out``, in float64, which a vector may overrun."""
    size = lanes_of(run)
    zero = splat(cast(run, 0.0))
    for k in range(2):
        for j in range(0, count, size):
            accumulate(out, k * out.shape[1] + start + j, load(run, 2 * j + k * size, count - j, zero))


@device
def add_sums(sums, count, out):
    """Add ``count`` lanes of sums in float64."""
    for k in range(2):
        for j in range(count):
            out[k, j] += sums[k, j]


@device
def part_sums(x, shape, part, low, high, lanes, at, run, out):
    """``out[:, lane - at]``: sums about the shift in float64 over one part; ``run`` is memory for those of a run."""
    apart()
    first, last, filled = rows_of(shape, part)
    width = row_width(shape)
    ahead = rows_ahead(width, low, high)
    clear(out, low - at, high - at)
    for start in range(first, last, ROWS_RUN):
        rows = range(start, min(last, start + ROWS_RUN))
        run_sums(x, rows, width, low, min(high, filled), lanes, at, run, ahead)
        add_run(run, min(high, filled) - low, out, low - at)


@device
def add_lanes(sums, shape, high):
    """``sums[:, channel]``: what the lanes of a channel have, added up; ``high`` is the number of lanes."""
    apart()
    inner = shape[2]
    base = shape[1] * inner
    if inner == 1 and high <= base:
        return
    for channel in range(min(high, base) // inner):
        s = q = 0.0
        for first in range(channel * inner, high, base):
            for lane in range(first, first + inner):
                s += sums[0, lane]
                q += sums[1, lane]
        sums[0, channel], sums[1, channel] = s, q


@device
def first_shifts(x, shape, low, high, values, lanes, run, sums):
    """First guesses of the means of a tile's channels, in row M of the lanes; their origins are left in ``values[P]``.

    They are taken from some rows spread over the array.
    """
    apart()
    outer, channels, inner = shape
    width = row_width(shape)
    whole = outer * channels * inner // width
    first = low // inner
    count = min(high - low, channels * inner) // inner
    for c in range(count):
        values[M, c] = values[P, c] = x[(first + c) * inner]
    if whole > 0:
        wanted = SAMPLES * channels // width + 1
        samples = min(whole, wanted)
        step = max(1, whole // wanted)
        spread(values, M, M, lanes, shape, high - low)
        run_sums(x, range(0, samples * step, step), width, low, high, lanes, low, run, np.intp(0))
        clear(sums, np.intp(0), high - low)
        add_run(run, high - low, sums, np.intp(0))
        add_lanes(sums, shape, high - low)
        n = samples * (width // channels)
        for c in range(count):
            values[M, c] = finite_shift(x, np.float64(values[P, c]), sums[0, c] / n)
    spread(values, M, M, lanes, shape, high - low)


@device
def settle_all(x, first, count, n, values, sums, table, eps):
    """Statistics of channels from ``first`` on, from their sums about ``values[M]``; whether all sums are good.

    Without branches, so that the loop is vectorised: with many channels of few values this is most of the work.
    """
    apart()
    least, weight = n * least_square(x), 1.0 / n
    good = np.intp(0)
    for c in range(count):
        s, q, origin = sums[0, c], sums[1, c], np.float64(values[P, c])
        mean, var = np.float64(values[M, c]) - origin + s * weight, (q - s * (s * weight)) * weight
        table[MEAN, first + c], table[REST, first + c] = exact_sum(origin, mean)
        table[VAR, first + c] = var
        table[INVSTD, first + c] = 1.0 / np.sqrt(var + eps)
        good += (q > least) & (q < np.inf) & (s * (s / n) <= FAR_FROM * q)
    return good == count


@device
def settle_channels(x, shape, first, unsettled, values, sums, table, eps):
    """The same, channel by channel for those whose sums are not plainly good; whether any needs new sums.

    A new shift, the mean that was found, is then in ``values[M]``.
    """
    apart()
    n = float(shape[0] * shape[2])
    if unsettled.all() and settle_all(x, first, unsettled.size, n, values, sums, table, eps):
        return False
    for c in range(unsettled.size):
        if unsettled[c]:
            s, q, origin = sums[0, c], sums[1, c], np.float64(values[P, c])
            judged = verdict(x, s, q, n, eps)
            mean, m2 = np.float64(values[M, c]) - origin + s * (1.0 / n), q - s * (s * (1.0 / n))
            if judged == HARD:
                mean, m2 = centred(x, shape, first + c, origin)
            finish(table, first + c, origin, mean, m2 * (1.0 / n), eps)
            values[M, c] = table[MEAN, first + c]
            unsettled[c] = judged == FAR
    return unsettled.any()


@device
def tile_statistics(x, shape, low, high, values, lanes, run, sums, partial, table, eps):
    """Statistics of a tile's channels, by one thread."""
    unsettled = all_true(min(high - low, shape[1] * shape[2]) // shape[2])
    first_shifts(x, shape, low, high, values, lanes, run, sums)
    left = True
    while left:
        clear(sums, np.intp(0), high - low)
        for part in range(part_count(shape)):
            part_sums(x, shape, part, low, high, lanes, low, run, partial)
            add_sums(partial, high - low, sums)
        add_lanes(sums, shape, high - low)
        left = settle_channels(x, shape, low // shape[2], unsettled, values, sums, table, eps)
        if left:
            spread(values, M, M, lanes, shape, high - low)


@device
def add_parts(parts, sums):
    """``sums`` of all parts, added in order."""
    apart()
    for k in range(2):
        for lane in range(parts.shape[2]):
            sums[k, lane] = 0.0
    for part in range(parts.shape[0]):
        for k in range(2):
            for lane in range(parts.shape[2]):
                sums[k, lane] += parts[part, k, lane]


# Forward ------------------------------------------------------------------------------------------------------------


@device
def set_constants(x, shape, first, high, table, values):
    """Constants of the channels from ``first`` on that have ``high`` lanes."""
    apart()
    for c in range(min(high, shape[1] * shape[2]) // shape[2]):
        values[M, c], values[P, c], values[R, c], values[H, c] = affine(x, table, first + c)


@device
def normalize_part(x, residual, y, shape, part, low, high, lanes, at, flags, ahead):
    """The second walk over one part of a tile: one span where the tile is whole rows, else one for each row."""
    apart()
    width = row_width(shape)
    first, last, filled = rows_of(shape, part)
    length = high - low
    if length == width:
        length, last = (last - first - 1) * width + filled, first + 1
    for row in range(first, last):
        start = row * width + low
        normalize_span(x, residual, y, start, start + length, low - at, width, lanes, flags, ahead)


@device
def forward_of_tiles(x, residual, y, shape, tiles, tile, table, eps, flags):
    """Both walks over a thread's tiles, one tile after the other."""
    width = row_width(shape)
    values, lanes, run = scratch(x, H + 1, tile), scratch(x, R + 1, tile), scratch(x, 2, tile)
    sums, partial = wide_sums(tile), wide_sums(tile)
    for low in range(tiles[0] * tile, min(width, tiles[1] * tile), tile):
        high = min(width, low + tile)
        if flags & MEASURES:
            tile_statistics(x, shape, low, high, values, lanes, run, sums, partial, table, eps)
        if flags & WRITES:
            set_constants(x, shape, low // shape[2], high - low, table, values)
            spread(values, M, R, lanes, shape, high - low)
            for part in range(part_count(shape) - 1, -1, -1):
                normalize_part(x, residual, y, shape, part, low, high, lanes, low, flags, high - low)


@device
def forward_of_tasks(x, residual, y, shape, tasks, lanes, parts, phase, flags):
    """One of the walks over a thread's tasks, each a part of a tile."""
    whole = np.intp(0)
    run = scratch(x, 2, min(row_width(shape), ROWS_TILE))
    for k in range(tasks[1] - tasks[0]):
        part, low, high = lanes_of_task(shape, tasks[0] + k if phase == SUMS else tasks[1] - 1 - k)
        if phase == SUMS:
            part_sums(x, shape, part, low, high, lanes, whole, run, parts[part])
        else:
            ahead = rows_ahead(row_width(shape), low, high)
            normalize_part(x, residual, y, shape, part, low, high, lanes, whole, flags, ahead)


@kernel
def forward(x, residual, y, table, eps, flags, cache, threads):
    """MEASURES: the table's statistics. WRITES: y. Parallel over tiles, or over parts and tiles.

    2e bytes per element (e is the itemsize) where a tile of all rows fits L2, else 3e; inference 2e. A residual adds e.
    """
    shape = x.shape
    if not flags & MEASURES:
        finish_running(table, eps)
    tile = whole_tile(x, 1, cache, threads)
    width = 0 if tile else row_width(shape)
    values, lanes = scratch(pointer(x), H + 1, width), scratch(pointer(x), R + 1, width)
    parts = np.empty((part_count(shape) if flags & MEASURES else 0, 2, padded(width)))
    sums = wide_sums(width)
    unsettled = all_true(shape[1])
    phase = TILES if tile else SUMS if flags & MEASURES else OUTPUT
    if phase == SUMS:
        first_shifts(pointer(x), shape, np.intp(0), width, values, lanes, scratch(pointer(x), 2, width), sums)
    while phase != DONE:
        if phase == OUTPUT:
            set_constants(pointer(x), shape, np.intp(0), width, table, values)
        if not tile:
            spread(values, M, R, lanes, shape, width)
        for thread in prange(threads):
            tasks = tasks_of(shape, tile, thread, threads)
            operands = pointer(x), pointer(residual), pointer(y)
            if tile:
                forward_of_tiles(*operands, shape, tasks, tile, table, eps, flags)
            else:
                forward_of_tasks(*operands, shape, tasks, lanes, parts, phase, flags)
            settle()
        if phase != SUMS:
            phase = DONE
        else:
            add_parts(parts, sums)
            add_lanes(sums, shape, width)
            if not settle_channels(pointer(x), shape, np.intp(0), unsettled, values, sums, table, eps):
                phase = OUTPUT if flags & WRITES else DONE


# Backward -----------------------------------------------------------------------------------------------------------


@device
def run_gradient_sums(inputs, rows, width, low, high, lanes, at, sums, mode, ahead):
    """Sums of dy and of dy * d * h over ``rows``, a range, a vector of each in turn."""
    apart()
    dy, x, y = inputs
    size, pitch = lanes_of(x), lanes.shape[1]
    zero = splat(cast(x, 0.0))
    for j in range(0, high - low, size):
        store(sums, 2 * j, size, zero)
        store(sums, 2 * j + size, size, zero)
    for row in rows:
        for j in range(0, high - low, size):
            i, lane, n = row * width + low + j, low - at + j, high - low - j
            prefetch(x, i + ahead)
            prefetch(dy, i + ahead)
            m = load(lanes, M * pitch + lane, size, zero)
            p = load(lanes, P * pitch + lane, size, zero) if mode & FROM_X else zero
            r = load(lanes, R * pitch + lane, size, zero) if mode & FROM_X else zero
            d = load(x, i, n, m) - m
            g = let_through(load(dy, i, n, zero), d, p, r, y, i, n, mode)
            scaled = d * load(lanes, H * pitch + lane, size, zero)
            store(sums, 2 * j, size, load(sums, 2 * j, size, zero) + g)
            store(sums, 2 * j + size, size, fma(g, scaled, load(sums, 2 * j + size, size, zero)))


@device
def part_gradient_sums(inputs, shape, part, low, high, lanes, at, run, out, mode):
    """``out[:, lane - at]``: the same in float64 over one part; dy counts where the activation let it through."""
    apart()
    first, last, filled = rows_of(shape, part)
    width = row_width(shape)
    ahead = rows_ahead(width, low, high)
    clear(out, low - at, high - at)
    for start in range(first, last, ROWS_RUN):
        rows = range(start, min(last, start + ROWS_RUN))
        run_gradient_sums(inputs, rows, width, low, min(high, filled), lanes, at, run, mode, ahead)
        add_run(run, min(high, filled) - low, out, low - at)


@device
def set_gradient_constants(x, shape, first, high, table, sums, values):
    """Finish sums, and from them set the constants of the second walk, for channels that have ``high`` lanes."""
    apart()
    for c in range(min(high, shape[1] * shape[2]) // shape[2]):
        sums[1, c] = dgamma_from(x, table, first + c, sums[0, c], sums[1, c])
        found = gradient(x, table, first + c, sums[0, c], sums[1, c], shape[0] * shape[2])
        values[U, c], values[A, c], values[B, c] = found


@device
def write_part_gradient(inputs, outputs, shape, part, low, high, lanes, at, mode, ahead):
    """The second walk over one part of a tile: one span where the tile is whole rows, else one for each row."""
    apart()
    width = row_width(shape)
    first, last, filled = rows_of(shape, part)
    length = high - low
    if length == width:
        length, last = (last - first - 1) * width + filled, first + 1
    for row in range(first, last):
        start = row * width + low
        write_gradient_span(inputs, outputs, start, start + length, low - at, width, lanes, mode, ahead)


@device
def backward_of_tiles(inputs, outputs, shape, tiles, tile, table, result, mode):
    """Both walks over a thread's tiles, one tile after the other."""
    x = inputs[1]
    width, inner = row_width(shape), shape[2]
    values, lanes, run = scratch(x, B + 1, tile), scratch(x, B + 1, tile), scratch(x, 2, tile)
    sums, partial = wide_sums(tile), wide_sums(tile)
    for low in range(tiles[0] * tile, min(width, tiles[1] * tile), tile):
        high = min(width, low + tile)
        first = low // inner
        set_constants(x, shape, first, high - low, table, values)
        spread(values, M, H, lanes, shape, high - low)
        clear(sums, np.intp(0), high - low)
        for part in range(part_count(shape)):
            part_gradient_sums(inputs, shape, part, low, high, lanes, low, run, partial, mode)
            add_sums(partial, high - low, sums)
        add_lanes(sums, shape, high - low)
        set_gradient_constants(x, shape, first, high - low, table, sums, values)
        spread(values, U, B, lanes, shape, high - low)
        for part in range(part_count(shape) - 1, -1, -1):
            write_part_gradient(inputs, outputs, shape, part, low, high, lanes, low, mode, high - low)
        for c in range(min(high - low, shape[1] * inner) // inner):
            result[0, first + c], result[1, first + c] = sums[0, c], sums[1, c]


@device
def backward_of_tasks(inputs, outputs, shape, tasks, lanes, parts, phase, mode):
    """One of the walks over a thread's tasks, each a part of a tile."""
    whole = np.intp(0)
    run = scratch(inputs[1], 2, min(row_width(shape), ROWS_TILE))
    for k in range(tasks[1] - tasks[0]):
        part, low, high = lanes_of_task(shape, tasks[0] + k if phase == SUMS else tasks[1] - 1 - k)
        if phase == SUMS:
            part_gradient_sums(inputs, shape, part, low, high, lanes, whole, run, parts[part], mode)
        else:
            ahead = rows_ahead(row_width(shape), low, high)
            write_part_gradient(inputs, outputs, shape, part, low, high, lanes, whole, mode, ahead)


@kernel
def backward(dy, x, y, dx, dresidual, table, mode, cache, threads):
    """dx (and dresidual); returns dbeta and dgamma, first in their rows. Parallel over tiles, or over parts and tiles.

    3e bytes per element where a tile of all rows of x and dy fits L2, else 5e. ReLU behind a residual adds 2e where it
    fits, for y and dresidual, else 3e.
    """
    shape = x.shape
    tile = whole_tile(x, 2, cache, threads)
    width = 0 if tile else row_width(shape)
    values, lanes = scratch(pointer(x), B + 1, width), scratch(pointer(x), B + 1, width)
    sums, parts = wide_sums(max(width, shape[1])), np.empty((part_count(shape), 2, padded(width)))
    if not tile:
        set_constants(pointer(x), shape, np.intp(0), width, table, values)
    phase = TILES if tile else SUMS
    while phase != DONE:
        if not tile:
            spread(values, M, H if phase == SUMS else B, lanes, shape, width)
        for thread in prange(threads):
            tasks = tasks_of(shape, tile, thread, threads)
            inputs, outputs = (pointer(dy), pointer(x), pointer(y)), (pointer(dx), pointer(dresidual))
            if tile:
                backward_of_tiles(inputs, outputs, shape, tasks, tile, table, sums, mode)
            else:
                backward_of_tasks(inputs, outputs, shape, tasks, lanes, parts, phase, mode)
            settle()
        if phase == SUMS:
            add_parts(parts, sums)
            add_lanes(sums, shape, width)
            set_gradient_constants(pointer(x), shape, np.intp(0), width, table, sums, values)
        phase = OUTPUT if phase == SUMS else DONE
    return sums
