"""Channels that lie side by side: ``(outer, channels)`` (NHWC, NC).

A row is a number of vectors, ``slots``. In ragged memory rows begin and end within vectors, and only rows whose numbers
are the same modulo the ``period`` lie in them alike: a thread keeps to these, so that each of its lanes keeps to one
channel. (Rows that are whole vectors have the period 1.)

A block takes a part of the rows of a tile of slots: some of its threads side by side read a row, the others the next
ones. Where blocks can hold their parts on chip, one launch does it all: those of a tile are a team, which puts its sums
together. (They take whole vectors, short ones if need be.) Else three do, and the second walk takes the parts in the
opposite order, so as to meet in the L2 cache what the first has read last.
"""

from ..flags import MEASURES, WRITES
from ..host import BETA, GAMMA, INVSTD, MEAN, REST
from .moments import (
    HAS_RUNNING,
    add_block,
    add_parts,
    meet,
    merge_block,
    merge_parts,
    settle_channel,
    without_lost,
)
from .policy import THREADS, WIDTH
from .rows_walks import fetch_tile, normalize_rows, sum_gradient_rows, sum_rows, write_gradient_rows
from .simd import arrived, cast, element, gather, gather_data, lanes, on_chip, scatter, shared, splat, vector_of
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
    """This thread's slot, its first row, the row behind its last, and the part."""
    outer, _, slots, width, period = sizes
    thread, tiles = cuda.threadIdx.x, (slots + width - 1) // width
    tile, part = block % tiles, block // tiles
    remainder, share, shares = part % period, part // period, count // period
    rows = (outer - remainder + period - 1) // period
    begin = rows * share // shares
    slot = tile * width + thread % width
    stop = rows * (share + 1) // shares if slot < slots else begin
    return slot, remainder + period * (begin + thread // width), remainder + period * stop, part


@device
def first_channel(x, sizes, slot, row):
    """The channel of a slot's first lane, which in ragged memory may lie before the row."""
    start = row * sizes[1]
    return (vector_of(x, start) + min(slot, sizes[2] - 1)) * lanes(x) - start


@device
def affine(x, table, channels, start):
    """``m, p, r, h`` of ``d = x - m``, ``y = d * p + r`` and, but for what the mean lost, ``xhat = d * h``.

    In a table of so many channels, which need not be all, for a vector's from ``start`` on.
    """
    m, h = gather(x, table, MEAN * channels, start, channels), gather(x, table, INVSTD * channels, start, channels)
    p = gather(x, table, GAMMA * channels, start, channels) * h
    rest = gather(x, table, REST * channels, start, channels)
    return m, p, gather(x, table, BETA * channels, start, channels) - rest * p, h


@device
def gradient(x, table, sums, columns, column, constants, channels, start, count):
    """``u, a, b`` of ``dx = (dy - u) * p + d * h * b + a``: the mean of dy, what the mean lost, the share of xhat.

    The sums of dy, and so many columns behind them those of dy * xhat, are for a vector's channels from ``column`` on.
    """
    _, p, _, h = constants
    share = splat(x, cast(table, 1) / cast(table, count))
    b = splat(x, 0) - p * gather(x, sums, columns, column, columns) * share
    a = splat(x, 0) - gather(x, table, REST * channels, start, channels) * h * b
    return gather(x, sums, 0, column, columns) * share, a, b


@device
def leave(parts, numbers, rows, x, sizes, slot, row, part):
    """Write what the block's threads have put together in some rows of shared memory as a part's sums."""
    thread, size, channels = cuda.threadIdx.x, lanes(x), sizes[1]
    start = first_channel(x, sizes, slot, row)
    if thread < sizes[3] and slot < sizes[2]:
        for lane in range(size):
            channel = start + lane
            if 0 <= channel < channels:
                for k in range(rows):
                    parts[(rows * part + k) * channels + channel] = numbers[(k * size + lane) * THREADS + thread]


@device
def column_at(k, size, count):
    """Where shared memory has the first sum of a tile's channel ``k``, and how far behind it the others follow."""
    return (k % size * THREADS + k // size, THREADS * size) if count == 1 else (k, THREADS)


@kernel
def sum_parts(x, parts, table, outer, channels, slots, width, period, count):
    """Moments of each part, means counted from the channel's first value, which is left where the mean will stand.

    e bytes per element of e bytes.
    """
    sizes = outer, channels, slots, width, period
    slot, row, stop, part = part_at(cuda.blockIdx.x, sizes, count)
    start, numbers = first_channel(x, sizes, slot, row), shared(x, 3, THREADS)
    sum_rows(x, gather_data(x, start, channels), numbers, sizes, slot, row, stop)
    merge_block(numbers, lanes(x), width)
    leave(parts, numbers, 3, x, sizes, slot, row, part)
    if part == 0 and cuda.threadIdx.x < width and slot < slots:
        for channel in range(max(start, 0), min(start + lanes(x), channels)):
            table[MEAN * channels + channel] = element(x, channel)


@kernel
def normalize(x, residual, y, table, outer, channels, slots, width, period, count, flags):
    """``y = relu((x - mean) * invstd * gamma + beta + residual)``. 2e bytes per element; a residual adds e."""
    sizes = outer, channels, slots, width, period
    slot, row, stop, _ = part_at(cuda.gridDim.x - 1 - cuda.blockIdx.x, sizes, count)
    constants = affine(x, table, channels, first_channel(x, sizes, slot, row))
    normalize_rows(x, residual, y, constants, sizes, slot, row, stop, flags)


@kernel
def sum_gradient_parts(dy, x, y, parts, table, outer, channels, slots, width, period, count, flags):
    """Sums of dy and of dy * xhat for each part; dy counts where the activation let it through.

    2e bytes per element; ReLU behind a residual adds e.
    """
    sizes, numbers = (outer, channels, slots, width, period), shared(x, 2, THREADS)
    slot, row, stop, part = part_at(cuda.blockIdx.x, sizes, count)
    constants = affine(x, table, channels, first_channel(x, sizes, slot, row))
    sum_gradient_rows(dy, x, y, constants, numbers, sizes, slot, row, stop, flags)
    add_block(numbers, 2 * lanes(x), width)
    leave(parts, numbers, 2, x, sizes, slot, row, part)


@kernel
def write_gradient(dy, x, y, dx, dresidual, table, gradients, outer, channels, slots, width, period, count, flags):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))``, FROZEN without the means.

    3e bytes per element; ReLU behind a residual adds 2e.
    """
    sizes = outer, channels, slots, width, period
    slot, row, stop, _ = part_at(cuda.gridDim.x - 1 - cuda.blockIdx.x, sizes, count)
    start = first_channel(x, sizes, slot, row)
    constants = affine(x, table, channels, start)
    terms = gradient(x, table, gradients, channels, start, constants, channels, start, outer)
    write_gradient_rows(dy, x, y, dx, dresidual, constants, terms, sizes, slot, row, stop, flags)


@kernel
def forward_on_chip(
    x, residual, y, table, gamma, beta, running_mean, running_var, parts, counters,
    outer, channels, slots, width, period, count, eps, old, new_mean, new_var, flags,
):  # fmt: skip
    """``sum_parts``, ``moments.settle`` and ``normalize`` in one, which read x once; y if WRITES.

    2e bytes per element; a residual adds e.
    """
    sizes, thread, columns = (outer, channels, slots, width, period), cuda.threadIdx.x, width * lanes(x)
    numbers, local, held = shared(x, 3, THREADS), shared(x, 6, WIDTH), on_chip(x, 0)
    tiles = (slots + width - 1) // width
    for block in range(cuda.blockIdx.x, tiles * count, cuda.gridDim.x):  # a team's side by side
        slot, row, stop, part = part_at(block % count * tiles + block // count, sizes, count)
        first = (slot - thread % width) * lanes(x)
        origin = gather_data(x, first_channel(x, sizes, slot, row), channels)
        fetch_tile(held, x, sizes, slot, row, stop)
        arrived()
        if flags & MEASURES:
            if thread < width:  # for later, when another block of the team may have written y where x was
                scatter(local, MEAN * columns + thread * lanes(x), 1, origin)
            sum_rows(held, origin, numbers, sizes, slot, row, stop)
            merge_block(numbers, lanes(x), width)
        if flags & MEASURES and count > 1:
            leave(parts, numbers, 3, x, sizes, slot, row, part)
            meet(counters, block // count, count)
            channel = min(first + thread % columns, channels - 1)
            n, mean, m2 = merge_parts(parts, count, channels, channel, thread // columns, THREADS // columns)
            numbers[thread], numbers[THREADS + thread], numbers[2 * THREADS + thread] = n, mean, m2
            merge_block(numbers, 1, columns)
        for k in range(thread, min(columns, channels - first), THREADS):
            at, step = column_at(k, lanes(x), count)
            measured = numbers[at], local[MEAN * columns + k], numbers[step + at], numbers[2 * step + at]
            parameters, weights = (gamma, beta, running_mean, running_var), (old, new_mean, new_var)
            asked = flags if part == 0 else flags & ~HAS_RUNNING
            settle_channel(measured, local, columns, k, parameters, first + k, eps, weights, asked)
            if part == 0:
                for line in range(6):
                    table[line * channels + first + k] = local[line * columns + k]
        cuda.syncthreads()
        if flags & WRITES:
            constants = affine(x, local, columns, thread % width * lanes(x))
            normalize_rows(held, residual, y, constants, sizes, slot, row, stop, flags)
        cuda.syncthreads()


@kernel
def backward_on_chip(
    dy, x, y, dx, dresidual, table, given, parts, counters, outer, channels, slots, width, period, count, flags
):
    """``sum_gradient_parts``, ``moments.settle_gradients`` and ``write_gradient`` in one, which read dy and x once.

    3e bytes per element; ReLU behind a residual adds 2e, and one more read of y, by then in the L2 cache.
    """
    sizes, thread, columns = (outer, channels, slots, width, period), cuda.threadIdx.x, width * lanes(x)
    numbers, local, held = shared(x, 2, THREADS), shared(x, 2, WIDTH), on_chip(x, 0)
    rows, side_by_side = (outer + count - 1) // count, THREADS // width
    held_dy = on_chip(x, (rows + side_by_side - 1) // side_by_side * THREADS)
    tiles = (slots + width - 1) // width
    for block in range(cuda.blockIdx.x, tiles * count, cuda.gridDim.x):  # a team's side by side
        slot, row, stop, part = part_at(block % count * tiles + block // count, sizes, count)
        first = (slot - thread % width) * lanes(x)
        fetch_tile(held, x, sizes, slot, row, stop)
        fetch_tile(held_dy, dy, sizes, slot, row, stop)
        start = first_channel(x, sizes, slot, row)
        constants = affine(x, table, channels, start)
        arrived()
        sum_gradient_rows(held_dy, held, y, constants, numbers, sizes, slot, row, stop, flags)
        add_block(numbers, 2 * lanes(x), width)
        if count > 1:
            leave(parts, numbers, 2, x, sizes, slot, row, part)
            meet(counters, block // count, count)
            channel = min(first + thread % columns, channels - 1)
            s, q = add_parts(parts, count, channels, channel, thread // columns, THREADS // columns)
            numbers[thread], numbers[THREADS + thread] = s, q
            add_block(numbers, 2, columns)
        for k in range(thread, min(columns, channels - first), THREADS):
            at, step = column_at(k, lanes(x), count)
            s, channel = numbers[at], first + k
            q = without_lost(s, numbers[step + at], table, channels, channel)
            local[k], local[columns + k] = s, q
            if part == 0:
                given[channel], given[channels + channel] = cast(given, s), cast(given, q)
        cuda.syncthreads()
        terms = gradient(x, table, local, columns, thread % width * lanes(x), constants, channels, start, outer)
        write_gradient_rows(held_dy, held, y, dx, dresidual, constants, terms, sizes, slot, row, stop, flags)
        cuda.syncthreads()
