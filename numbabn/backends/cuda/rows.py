"""Channels that lie side by side: ``(outer, channels)`` (NHWC, NC).

A row is a number of vectors, ``slots``. In ragged memory rows begin and end within vectors, and only rows whose numbers
are the same modulo the ``period`` lie in them alike: a thread keeps to these, so that each of its lanes keeps to one
channel. (Rows that are whole vectors have the period 1.)

All kernels are parallel over tiles, ``width`` slots side by side, and their parts, a block each: some of its threads
side by side read a row, the others the next ones. Where blocks can hold their parts on chip, one launch does it all:
those of a tile are a team, which puts its sums together. Else there are several, and the walk that writes takes the
parts in the opposite order, so as to meet in the L2 cache what the one that sums has read last. Ragged rows are never
held: their teams would have as many blocks more as the period says.

Nothing was tried on a card; what is yet to be compared is told in ``planes``.
"""

from ..flags import MEASURES, WRITES
from ..host import BETA, GAMMA, INVSTD, MEAN, REST
from .block import on_chip, shared, wait_for_copies
from .moments import (
    HAS_RUNNING,
    KEEPS,
    add_block,
    add_columns,
    merge_block,
    merge_columns,
    parameters_of,
    settle_channel,
    team_barrier,
    without_lost,
)
from .policy import THREADS, WIDTH
from .rows_walks import fetch_rows, normalize_rows, sum_gradient_rows, sum_rows, write_gradient_rows
from .simd import cast, element, gather, gather_data, lanes, splat, vector_of, without
from .toolkit import cuda, device, kernel

KINDS = {
    "sum_parts": "dnnlliiii",
    "normalize": "dddnlliiiii",
    "sum_gradient_parts": "dddnnlliiiii",
    "write_gradient": "dddddnnlliiiii",
    "forward_on_chip": "dddnppppnclliiiiffffi",
    "backward_on_chip": "dddddnpnclliiiii",
}
"""Of the kernels' arguments (see ``launch.launcher``)."""


@device
def part_at(block, sizes, count):
    """A block's part, and a thread's piece: its slot, its first row, and the row after its last."""
    outer, _, slots, width, period = sizes
    thread, tiles = cuda.threadIdx.x, (slots + width - 1) // width
    tile, part = block % tiles, block // tiles
    remainder, share, shares = part % period, part // period, count // period
    rows = (outer - remainder + period - 1) // period
    begin = rows * share // shares
    slot = tile * width + thread % width
    stop = rows * (share + 1) // shares if slot < slots else begin
    return part, (slot, remainder + period * (begin + thread // width), remainder + period * stop)


@device
def first_channel(x, sizes, piece):
    """The channel of a slot's first lane, which in ragged memory may lie before the row."""
    _, channels, slots, _, _ = sizes
    slot, row, _ = piece
    start = row * channels
    return (vector_of(x, start) + min(slot, slots - 1)) * lanes(x) - start


@device
def affine(x, table, columns, column):
    """``m, p, r, h`` of ``d = x - m``, ``y = d * p + r`` and, but for what the mean lost, ``xhat = d * h``: vectors,
    from a ``column`` on, of a table of so many."""
    m, h = gather(x, table, MEAN * columns, column, columns), gather(x, table, INVSTD * columns, column, columns)
    p = gather(x, table, GAMMA * columns, column, columns) * h
    rest, beta = gather(x, table, REST * columns, column, columns), gather(x, table, BETA * columns, column, columns)
    return m, p, without(beta, rest * p), h


@device
def gradient(x, table, channels, start, sums, columns, column, constants, values):
    """``u, a, b`` of ``dx = (dy - u) * p + d * h * b + a``: the mean of dy, what the mean lost, the share of xhat.

    ``sums`` of dy, and ``columns`` after them those of dy * xhat, are taken from a ``column`` on; the table's numbers
    from the channel ``start`` on.
    """
    _, p, _, h = constants
    share, nothing = splat(x, cast(table, 1) / cast(table, values)), splat(x, 0)
    b = nothing - p * gather(x, sums, columns, column, columns) * share
    rest = gather(x, table, REST * channels, start, channels)
    return gather(x, sums, 0, column, columns) * share, without(nothing, rest * h * b), b


@device
def write_part(parts, sums, rows, x, sizes, piece, part):
    """Write what the block's threads have put together in some rows of shared memory as a part's sums."""
    _, channels, slots, width, _ = sizes
    thread, size, start = cuda.threadIdx.x, lanes(x), first_channel(x, sizes, piece)
    if thread < width and piece[0] < slots:
        for lane in range(size):
            channel = start + lane
            if 0 <= channel < channels:
                for k in range(rows):
                    parts[(rows * part + k) * channels + channel] = sums[(k * size + lane) * THREADS + thread]


@device
def sums_at(column, size, count):
    """Where shared memory has the first sum of a tile's channel, and how far after it the others follow.

    A block alone has them lane by lane, as its threads left them; what a team put together lies channel by channel.
    """
    return (column % size * THREADS + column // size, THREADS * size) if count == 1 else (column, THREADS)


@kernel
def sum_parts(x, parts, table, outer, channels, slots, width, period, count):
    """Count, mean and sum of squared deviations of each part, means counted from the channel's first value, which is
    left where the mean will stand. e bytes per element of e bytes."""
    sizes, sums = (outer, channels, slots, width, period), shared(x, 3, THREADS)
    part, piece = part_at(cuda.blockIdx.x, sizes, count)
    start = first_channel(x, sizes, piece)
    sum_rows(x, gather_data(x, start, channels), sums, sizes, piece)
    merge_block(sums, lanes(x), width)
    write_part(parts, sums, 3, x, sizes, piece, part)
    if part == 0 and cuda.threadIdx.x < width and piece[0] < slots:
        for channel in range(max(start, 0), min(start + lanes(x), channels)):
            table[MEAN * channels + channel] = element(x, channel)


@kernel
def normalize(x, residual, y, table, outer, channels, slots, width, period, count, flags):
    """``y = relu((x - mean) * invstd * gamma + beta + residual)``. 2e bytes per element; a residual adds e."""
    sizes = outer, channels, slots, width, period
    _, piece = part_at(cuda.gridDim.x - 1 - cuda.blockIdx.x, sizes, count)
    constants = affine(x, table, channels, first_channel(x, sizes, piece))
    normalize_rows(x, residual, y, constants, sizes, piece, flags)


@kernel
def sum_gradient_parts(dy, x, y, parts, table, outer, channels, slots, width, period, count, flags):
    """Sums of dy and of dy * xhat for each part; dy counts where the activation let it through.

    2e bytes per element; ReLU after a residual adds e.
    """
    sizes, sums = (outer, channels, slots, width, period), shared(x, 2, THREADS)
    part, piece = part_at(cuda.blockIdx.x, sizes, count)
    constants = affine(x, table, channels, first_channel(x, sizes, piece))
    sum_gradient_rows(dy, x, y, constants, sums, sizes, piece, flags)
    add_block(sums, 2 * lanes(x), width)
    write_part(parts, sums, 2, x, sizes, piece, part)


@kernel
def write_gradient(dy, x, y, dx, dresidual, table, gradients, outer, channels, slots, width, period, count, flags):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))``, FROZEN without the means.

    3e bytes per element; ReLU after a residual adds 2e.
    """
    sizes = outer, channels, slots, width, period
    _, piece = part_at(cuda.gridDim.x - 1 - cuda.blockIdx.x, sizes, count)
    start = first_channel(x, sizes, piece)
    constants = affine(x, table, channels, start)
    terms = gradient(x, table, channels, start, gradients, channels, start, constants, outer)
    write_gradient_rows(dy, x, y, dx, dresidual, constants, terms, sizes, piece, flags)


@kernel
def forward_on_chip(
    x, residual, y, table, gamma, beta, running_mean, running_var, parts, counters,
    outer, channels, slots, width, period, count, eps, old, new_mean, new_var, flags,
):  # fmt: skip
    """``sum_parts``, ``moments.settle`` and ``normalize`` in one, which read x once. A thread settles a channel.

    2e bytes per element; a residual adds e, and without WRITES, which y needs, it is e.
    """
    sizes, thread, columns = (outer, channels, slots, width, period), cuda.threadIdx.x, width * lanes(x)
    sums, tile, chip = shared(x, 3, THREADS), shared(x, 6, WIDTH), on_chip(x, 0)
    tiles = (slots + width - 1) // width
    for block in range(cuda.blockIdx.x, tiles * count, cuda.gridDim.x):  # see toolkit.prepared
        part, piece = part_at(block % count * tiles + block // count, sizes, count)
        first = block // count * columns
        channel = min(first + thread % columns, channels - 1)
        fetch_rows(chip, x, sizes, piece)
        origins = gather_data(x, first_channel(x, sizes, piece), channels)
        origin = element(x, channel)  # before any block of the team may write y where x is
        values = parameters_of(table, (gamma, beta, running_mean, running_var), channel, flags)
        wait_for_copies()
        if flags & MEASURES:
            sum_rows(chip, origins, sums, sizes, piece)
            merge_block(sums, lanes(x), width)
            if count > 1:
                write_part(parts, sums, 3, x, sizes, piece, part)
                team_barrier(counters, block // count, count)
                merge_columns(parts, sums, count, channels, first, columns)
        if thread < columns and first + thread < channels:
            at, step = sums_at(thread, lanes(x), count)
            measured = sums[at], origin, sums[step + at], sums[2 * step + at]
            running, weights = (running_mean, running_var), (old, new_mean, new_var)
            flags_here = flags if part == 0 else flags & ~HAS_RUNNING
            settle_channel(measured, values, tile, columns, thread, running, channel, eps, weights, flags_here)
            if part == 0 and flags & KEEPS:
                for k in range(6):
                    table[k * channels + channel] = tile[k * columns + thread]
        cuda.syncthreads()
        if flags & WRITES:
            constants = affine(x, tile, columns, thread % width * lanes(x))
            normalize_rows(chip, residual, y, constants, sizes, piece, flags)
        cuda.syncthreads()  # the next tile's sums take the place of these


@kernel
def backward_on_chip(
    dy, x, y, dx, dresidual, table, dbeta_dgamma, parts, counters,
    outer, channels, slots, width, period, count, flags,
):  # fmt: skip
    """``sum_gradient_parts``, ``moments.settle_gradients`` and ``write_gradient`` in one, which read dy and x once.

    3e bytes per element; ReLU after a residual adds 2e, and e more where y has left the L2 cache between two reads.
    """
    sizes, thread, columns = (outer, channels, slots, width, period), cuda.threadIdx.x, width * lanes(x)
    sums, tile, side_by_side = shared(x, 2, THREADS), shared(x, 2, WIDTH), THREADS // width
    each = ((outer + count - 1) // count + side_by_side - 1) // side_by_side * THREADS
    chip_x, chip_dy, tiles = on_chip(x, 0), on_chip(dy, each), (slots + width - 1) // width
    for block in range(cuda.blockIdx.x, tiles * count, cuda.gridDim.x):  # see toolkit.prepared
        part, piece = part_at(block % count * tiles + block // count, sizes, count)
        first, start = block // count * columns, first_channel(x, sizes, piece)
        fetch_rows(chip_x, x, sizes, piece)
        fetch_rows(chip_dy, dy, sizes, piece)
        constants = affine(x, table, channels, start)
        wait_for_copies()
        sum_gradient_rows(chip_dy, chip_x, y, constants, sums, sizes, piece, flags)
        add_block(sums, 2 * lanes(x), width)
        if count > 1:
            write_part(parts, sums, 2, x, sizes, piece, part)
            team_barrier(counters, block // count, count)
            add_columns(parts, sums, count, channels, first, columns)
        channel = first + thread
        if thread < columns and channel < channels:
            at, step = sums_at(thread, lanes(x), count)
            s = sums[at]
            q = without_lost(s, sums[step + at], table, channels, channel)
            tile[thread], tile[columns + thread] = s, q
            if part == 0:
                dbeta_dgamma[channel], dbeta_dgamma[channels + channel] = cast(dbeta_dgamma, s), cast(dbeta_dgamma, q)
        cuda.syncthreads()
        terms = gradient(x, table, channels, start, tile, columns, thread % width * lanes(x), constants, outer)
        write_gradient_rows(chip_dy, chip_x, y, dx, dresidual, constants, terms, sizes, piece, flags)
        cuda.syncthreads()  # the next tile's sums take the place of these
