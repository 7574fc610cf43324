"""Channels that lie side by side: ``(outer, channels, inner)`` with ``inner`` 1 (NHWC, NC) or short.

The array is read as rows of *lanes*. A row is ``channels * inner`` elements, or several times that where this is
narrow, and lane ``l`` belongs to channel ``l // inner % channels``; nothing needs to be reduced across lanes until the
end, when each channel's lanes are merged. A task is a *part* of the rows times a *tile* of the lanes; both, and the
*runs* of rows summed before merging in float64, depend on the shape alone. Where rows are put together, the last may be
incomplete: it is a part of its own.
"""

import numpy as np
from numba import prange

from ...jit import device, kernel, serial, shared
from ..host import BETA, GAMMA, INVSTD, MEAN, REST
from .epilogue import FROM_Y, FROZEN, add_and_clip, let_through
from .moments import cancels, centred, finish, is_precise, merge, rounding_lost, subtract_product
from .policy import ROWS_BLOCK, ROWS_LANES, ROWS_PART, ROWS_RUN, ROWS_TILE
from .simd import BYTES, fma, load, splat, store

M, P, R, H, K, U, A, B = range(8)
"""Rows of the per-lane constants:
``d = x - M``, ``y = d * P + R``, ``xhat = d * H + K``, ``dx = (dy - U) * P + xhat * B + A``."""


@shared
def row_width(shape):
    """Lanes of a row."""
    base = shape[1] * shape[2]
    return base * max(1, (ROWS_LANES + base - 1) // base)


@shared
def part_rows(width):
    """Rows of a part."""
    return max(ROWS_RUN, ROWS_PART // min(width, ROWS_TILE))


@shared
def grid(shape):
    """Numbers of parts and of tiles."""
    width = row_width(shape)
    total = shape[0] * shape[1] * shape[2]
    rows = part_rows(width)
    whole = total // width
    return (whole + rows - 1) // rows + (1 if total % width else 0), (width + ROWS_TILE - 1) // ROWS_TILE


@device
def extent(shape, part, tile):
    """First row of a task and the one behind its last, first lane and the one behind its last."""
    width = row_width(shape)
    whole, rest = divmod(shape[0] * shape[1] * shape[2], width)
    first = part * part_rows(width)
    low = tile * ROWS_TILE
    high = min(width, low + ROWS_TILE)
    if part == (whole + part_rows(width) - 1) // part_rows(width):
        return whole, whole + 1, low, min(high, rest)
    return first, min(whole, first + part_rows(width)), low, high


# Statistics ---------------------------------------------------------------------------------------------------------


@device
def run_sums(x, first, last, width, low, high, shift, sums):
    """``sums[:, lane - low]``: sums of ``x - shift`` and of its square over rows ``first`` to ``last``."""
    lanes = BYTES // x.itemsize
    tile = sums.shape[1]
    zero = splat(x.dtype.type(0))
    for j in range(0, high - low, lanes):
        store(sums, j, lanes, zero)
        store(sums, tile + j, lanes, zero)
    for top in range(first, last, ROWS_BLOCK):
        for j in range(0, high - low, lanes):
            centre = load(shift, j, lanes, zero)
            s = load(sums, j, lanes, zero)
            q = load(sums, tile + j, lanes, zero)
            i = top * width + low + j
            for _ in range(min(ROWS_BLOCK, last - top)):
                d = load(x, i, high - low - j, centre) - centre
                s += d
                q = fma(d, d, q)
                i += width
            store(sums, j, lanes, s)
            store(sums, tile + j, lanes, q)


@device
def count_cancelling(sums, n, lanes):
    """Number of lanes whose sums need a better shift."""
    bad = 0
    for j in range(lanes):
        bad += cancels(np.float64(sums[0, j]), np.float64(sums[1, j]), n)
    return bad


@device
def move_shift(shift, sums, n, lanes):
    """Shift by the mean that ``n`` rows had from the old shift."""
    for j in range(lanes):
        shift[j] += sums[0, j] / n


@device
def part_moments(x, part, tile, means, m2s):
    """Mean (counted from the channel's first value) and M2 of a task's lanes, in ``means[part]`` and ``m2s[part]``.

    The shift is the mean so far, at first that of a few rows. Where it is far from the run's own mean in many lanes,
    the run is summed again; single lanes (and values whose squares float32 cannot hold) are summed in float64.
    """
    width = row_width(x.shape)
    first, last, low, high = extent(x.shape, part, tile)
    lanes = high - low
    shift = np.zeros(ROWS_TILE, x.dtype)
    sums = np.empty((2, ROWS_TILE), x.dtype)
    origins = np.empty(lanes)
    for j in range(lanes):
        origins[j] = x[0, (low + j) // x.shape[2] % x.shape[1], 0]
    count = 0.0
    for start in range(first, last, ROWS_RUN):
        stop = min(last, start + ROWS_RUN)
        n = float(stop - start)
        if count == 0:
            guess = min(stop, start + ROWS_BLOCK)
            run_sums(x, start, guess, width, low, high, shift, sums)
            move_shift(shift, sums, guess - start, lanes)
        run_sums(x, start, stop, width, low, high, shift, sums)
        if 8 * count_cancelling(sums, n, lanes) > lanes:
            move_shift(shift, sums, n, lanes)
            run_sums(x, start, stop, width, low, high, shift, sums)
        for j in range(lanes):
            s, q = np.float64(sums[0, j]), np.float64(sums[1, j])
            if is_precise(x, q) and not cancels(s, q, n):
                mean, m2 = np.float64(shift[j]) - origins[j] + s / n, q - s * s / n
            else:
                mean, m2 = centred(x, origins[j], start * width + low + j, stop - start, 1, width)
            if count > 0:
                _, mean, m2 = merge(count, means[part, low + j], m2s[part, low + j], n, mean, m2)
            means[part, low + j], m2s[part, low + j] = mean, m2
            shift[j] = origins[j] + mean
        count += n


@kernel
def moments_of_parts(x, means, m2s):
    """Moments of every part and lane. Parallel over parts and tiles; e bytes per element."""
    parts, tiles = grid(x.shape)
    for task in prange(parts * tiles):
        part_moments(x, task // tiles, task % tiles, means, m2s)


@kernel
def merge_channels(x, means, m2s, table, eps):
    """Every channel's statistics from the moments of its lanes and parts, merged in order. Parallel over channels."""
    _, channels, inner = x.shape
    width = row_width(x.shape)
    for channel in prange(channels):
        count, mean, m2 = 0.0, 0.0, 0.0
        for part in range(means.shape[0]):
            first, last, _, _ = extent(x.shape, part, 0)
            n = float(last - first)
            filled = x.size - first * width
            for lane in range(channel * inner, width, channels * inner):
                for i in range(lane, min(lane + inner, filled)):
                    count, mean, m2 = merge(count, mean, m2, n, means[part, i], m2s[part, i])
        finish(table, channel, np.float64(x[0, channel, 0]), mean, m2 / count, eps)


# Forward ------------------------------------------------------------------------------------------------------------


@serial
def set_constants(table, shape, lanes):
    """Per-lane constants of a walk; what rounding the mean to the data's dtype lost goes into R and K."""
    for lane in range(row_width(shape)):
        channel = lane // shape[2] % shape[1]
        mean, invstd = table[MEAN, channel], table[INVSTD, channel]
        scale = table[GAMMA, channel] * invstd
        lanes[M, lane] = mean
        missing = rounding_lost(mean, np.float64(lanes[M, lane]), table[REST, channel])
        lanes[P, lane] = scale
        lanes[R, lane] = subtract_product(table[BETA, channel], missing, scale)
        lanes[H, lane] = invstd
        lanes[K, lane] = subtract_product(0.0, missing, invstd)


@device
def normalize_part(x, residual, y, part, tile, lanes, epilogue):
    """``y = relu((x - mean) * scale + beta + residual)`` for one task, last row first.

    Lost: several rows side by side, as in the sums: 5.7 ms instead of 3.7 for inference on (32, 56, 56, 64), 2 threads.
    """
    width = row_width(x.shape)
    first, last, low, high = extent(x.shape, part, tile)
    size, pitch = BYTES // x.itemsize, lanes.shape[1]
    zero = splat(x.dtype.type(0))
    for row in range(last - 1, first - 1, -1):
        i = row * width
        for j in range(low, high, size):
            m = load(lanes, M * pitch + j, size, zero)
            p = load(lanes, P * pitch + j, size, zero)
            r = load(lanes, R * pitch + j, size, zero)
            v = fma(load(x, i + j, high - j, m) - m, p, r)
            store(y, i + j, high - j, add_and_clip(v, residual, i + j, high - j, epilogue))


@kernel
def normalize_lanes(x, residual, y, lanes, epilogue):
    """Write y. Parallel over parts and tiles; 2e bytes per element, 3e with a residual."""
    parts, tiles = grid(x.shape)
    for task in prange(parts * tiles):
        normalize_part(x, residual, y, parts - 1 - task // tiles, task % tiles, lanes, epilogue)


# Backward -----------------------------------------------------------------------------------------------------------


@device
def part_gradient_sums(inputs, part, tile, lanes, partial, mode):
    """``partial[:, lane]``: sums of dy and of dy * xhat over a task's rows; dy counts where the activation was open."""
    dy, x, y = inputs
    width = row_width(x.shape)
    first, last, low, high = extent(x.shape, part, tile)
    size, pitch = BYTES // x.itemsize, lanes.shape[1]
    zero = splat(x.dtype.type(0))
    sums = np.empty((2, ROWS_TILE), x.dtype)
    for j in range(low, high):
        partial[0, j] = partial[1, j] = 0.0
    for start in range(first, last, ROWS_RUN):
        for j in range(0, high - low, size):
            store(sums, j, size, zero)
            store(sums, ROWS_TILE + j, size, zero)
        stop = min(last, start + ROWS_RUN)
        for top in range(start, stop, ROWS_BLOCK):
            for j in range(low, high, size):
                m = load(lanes, M * pitch + j, size, zero)
                p = load(lanes, P * pitch + j, size, zero)
                r = load(lanes, R * pitch + j, size, zero)
                h = load(lanes, H * pitch + j, size, zero)
                k = load(lanes, K * pitch + j, size, zero)
                s = load(sums, j - low, size, zero)
                q = load(sums, ROWS_TILE + j - low, size, zero)
                i = top * width + j
                for _ in range(min(ROWS_BLOCK, stop - top)):
                    d = load(x, i, high - j, m) - m
                    g = let_through(load(dy, i, high - j, zero), d, p, r, y, i, high - j, mode)
                    s += g
                    q = fma(g, fma(d, h, k), q)
                    i += width
                store(sums, j - low, size, s)
                store(sums, ROWS_TILE + j - low, size, q)
        for j in range(low, high):
            partial[0, j] += sums[0, j - low]
            partial[1, j] += sums[1, j - low]


@kernel
def gradient_sums_of_parts(dy, x, y, lanes, partial, mode):
    """Sums of every part and lane. Parallel over parts and tiles; 2e bytes per element.

    ReLU behind a residual adds e, for y.
    """
    parts, tiles = grid(x.shape)
    for task in prange(parts * tiles):
        part_gradient_sums((dy, x, y), task // tiles, task % tiles, lanes, partial[task // tiles], mode)


@kernel
def add_channels(x, partial, sums):
    """``sums[:, channel] = dbeta, dgamma``, added up in order. Parallel over channels."""
    _, channels, inner = x.shape
    width = row_width(x.shape)
    for channel in prange(channels):
        dbeta, dgamma = 0.0, 0.0
        for part in range(partial.shape[0]):
            first, _, _, _ = extent(x.shape, part, 0)
            filled = x.size - first * width
            for lane in range(channel * inner, width, channels * inner):
                for i in range(lane, min(lane + inner, filled)):
                    dbeta += partial[part, 0, i]
                    dgamma += partial[part, 1, i]
        sums[0, channel] = dbeta
        sums[1, channel] = dgamma


@serial
def set_gradient_constants(sums, table, shape, lanes):
    """What only the second walk needs: ``A = -scale * mean(dy)``, ``B = -scale * mean(dy * xhat)``."""
    count = shape[0] * shape[2]
    for lane in range(row_width(shape)):
        channel = lane // shape[2] % shape[1]
        scale = table[GAMMA, channel] * table[INVSTD, channel]
        lanes[U, lane] = sums[0, channel] / count
        lanes[A, lane] = -scale * rounding_lost(sums[0, channel] / count, np.float64(lanes[U, lane]), 0.0)
        lanes[B, lane] = -scale * sums[1, channel] / count


@device
def write_part_gradient(inputs, outputs, part, tile, lanes, mode):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))`` for one task, last rows first.

    Through running statistics (FROZEN) it is ``gamma * invstd * dy``; x counts only for ReLU's sign: a NaN stays there.
    """
    dy, x, y = inputs
    dx, dresidual = outputs
    width = row_width(x.shape)
    first, last, low, high = extent(x.shape, part, tile)
    size, pitch = BYTES // x.itemsize, lanes.shape[1]
    zero = splat(x.dtype.type(0))
    blocks = (last - first + ROWS_BLOCK - 1) // ROWS_BLOCK
    for block in range(blocks - 1, -1, -1):
        top = first + block * ROWS_BLOCK
        for j in range(low, high, size):
            m = load(lanes, M * pitch + j, size, zero)
            p = load(lanes, P * pitch + j, size, zero)
            r = load(lanes, R * pitch + j, size, zero)
            h = load(lanes, H * pitch + j, size, zero)
            k = load(lanes, K * pitch + j, size, zero)
            u = load(lanes, U * pitch + j, size, zero)
            a = load(lanes, A * pitch + j, size, zero)
            b = load(lanes, B * pitch + j, size, zero)
            i = top * width + j
            for _ in range(min(ROWS_BLOCK, last - top)):
                d = load(x, i, high - j, m) - m
                g = let_through(load(dy, i, high - j, zero), d, p, r, y, i, high - j, mode)
                if mode & FROM_Y:
                    store(dresidual, i, high - j, g)
                g = g * p if mode & FROZEN else fma(g - u, p, fma(fma(d, h, k), b, a))
                store(dx, i, high - j, g)
                i += width


@kernel
def write_gradient(dy, x, y, dx, dresidual, lanes, mode):
    """dx (and dresidual) from finished sums. Parallel over parts and tiles; 3e bytes per element.

    ReLU behind a residual adds 2e, for y and dresidual.
    """
    parts, tiles = grid(x.shape)
    for task in prange(parts * tiles):
        write_part_gradient((dy, x, y), (dx, dresidual), parts - 1 - task // tiles, task % tiles, lanes, mode)


# The family's functions ---------------------------------------------------------------------------------------------


def statistics(x, table, eps):
    """Fill the table's mean, var and invstd."""
    shape = grid(x.shape)[0], row_width(x.shape)
    means, m2s = np.empty(shape), np.empty(shape)
    moments_of_parts(x, means, m2s)
    merge_channels(x, means, m2s, table, eps)


def forward_training(x, residual, y, table, eps, epilogue):
    """Fill the table's statistics and write y: 3e bytes per element in all."""
    statistics(x, table, eps)
    normalize(x, residual, y, table, epilogue)


def normalize(x, residual, y, table, epilogue):
    """Write y with the table's statistics."""
    normalize_lanes(x, residual, y, _constants(x, table), epilogue)


def backward(dy, x, y, dx, dresidual, table, mode):
    """Write dx (and dresidual), 5e bytes per element in all; return dbeta, dgamma."""
    lanes = _constants(x, table)
    partial = np.empty((grid(x.shape)[0], 2, row_width(x.shape)))
    sums = np.empty((2, x.shape[1]))
    gradient_sums_of_parts(dy, x, y, lanes, partial, mode)
    add_channels(x, partial, sums)
    set_gradient_constants(sums, table, x.shape, lanes)
    write_gradient(dy, x, y, dx, dresidual, lanes, mode)
    return sums


def _constants(x, table):
    """Per-lane constants, the lanes padded to whole vectors."""
    lanes = np.empty((8, -(-row_width(x.shape) // 16) * 16), x.dtype)
    set_constants(table, x.shape, lanes)
    return lanes
