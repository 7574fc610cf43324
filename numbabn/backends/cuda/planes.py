"""Channels whose values lie in contiguous rows: ``(outer, channels, inner)``, ``inner`` above 1 (NCHW and the like).

A row is a number of vectors, ``slots``. In ragged memory rows begin and end within vectors: the first and the last of a
row's slots are then shared with other channels, and some last ones are of no row.

All kernels are parallel over channels and their parts, a block each: so many of a channel's slots, counted row after
row. Where blocks can hold their parts on chip, one launch does it all: those of a channel are a team, which puts its
sums together. Else there are several, and the walk that writes takes the parts in the opposite order, so as to meet in
the L2 cache what the one that sums has read last.

Nothing was tried on a card. By the compiler's word alone: a vector of float32 takes ``normalize`` 34 instructions, and
140 with a division at each slot. Lost by it: to read the next vectors before those at hand are used, which takes the
registers of a block or two (float16, ``normalize``: 4 blocks a multiprocessor for 6); only ``rows`` of float16 would
have more bytes on their way. Not written yet, and to be compared with teams: clusters with distributed shared memory
(sm_90), x kept in registers, the next channel copied while this one is written.
"""

from ..flags import MEASURES, WRITES
from ..host import MEAN
from .block import on_chip, shared, wait_for_copies
from .constants import affine, gradient
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
from .planes_walks import (
    fetch_slots,
    normalize_slots,
    sizes_and_steps,
    sum_gradient_slots,
    sum_slots,
    write_gradient_slots,
)
from .policy import THREADS
from .simd import cast, element
from .toolkit import cuda, device, kernel

KINDS = {
    "sum_parts": "dnnlllli",
    "normalize": "dddnllllii",
    "sum_gradient_parts": "dddnnllllii",
    "write_gradient": "dddddnnllllii",
    "forward_on_chip": "dddnppppnclllliffffi",
    "backward_on_chip": "dddddnpncllllii",
}
"""Of the kernels' arguments (see ``launch.launcher``)."""


@device
def part_at(block, sizes, count):
    """A block's part, and its piece: the channel, the first of its slots and how many there are."""
    outer, _, _, slots, _, _ = sizes
    channel = block // count
    part = block - channel * count
    begin = outer * slots * part // count
    return part, (channel, begin, outer * slots * (part + 1) // count - begin)


@device
def write_part(parts, sums, rows, part, channels, channel):
    """Write what the block's threads have put together in some rows of shared memory as a part's sums."""
    if cuda.threadIdx.x < rows:
        parts[(rows * part + cuda.threadIdx.x) * channels + channel] = sums[cuda.threadIdx.x * THREADS]


@kernel
def sum_parts(x, parts, table, outer, channels, inner, slots, count):
    """Count, mean and sum of squared deviations of each part, means counted from the channel's first value, which is
    left where the mean will stand. e bytes per element of e bytes."""
    sizes = sizes_and_steps(outer, channels, inner, slots)
    part, piece = part_at(cuda.blockIdx.x, sizes, count)
    channel, sums = piece[0], shared(table, 3, THREADS)
    origin = element(x, channel * inner)
    sum_slots(x, origin, sums, sizes, piece)
    merge_block(sums, 1, 1)
    write_part(parts, sums, 3, part, channels, channel)
    if part == 0 and cuda.threadIdx.x == 0:
        table[MEAN * channels + channel] = origin


@kernel
def normalize(x, residual, y, table, outer, channels, inner, slots, count, flags):
    """``y = relu((x - mean) * invstd * gamma + beta + residual)``. 2e bytes per element; a residual adds e."""
    sizes = sizes_and_steps(outer, channels, inner, slots)
    _, piece = part_at(cuda.gridDim.x - 1 - cuda.blockIdx.x, sizes, count)
    normalize_slots(x, residual, y, affine(table, channels, piece[0]), sizes, piece, flags)


@kernel
def sum_gradient_parts(dy, x, y, parts, table, outer, channels, inner, slots, count, flags):
    """Sums of dy and of dy * xhat for each part; dy counts where the activation let it through.

    2e bytes per element; ReLU after a residual adds e.
    """
    sizes = sizes_and_steps(outer, channels, inner, slots)
    part, piece = part_at(cuda.blockIdx.x, sizes, count)
    channel, sums = piece[0], shared(table, 2, THREADS)
    sum_gradient_slots(dy, x, y, affine(table, channels, channel), sums, sizes, piece, flags)
    add_block(sums, 2, 1)
    write_part(parts, sums, 2, part, channels, channel)


@kernel
def write_gradient(dy, x, y, dx, dresidual, table, gradients, outer, channels, inner, slots, count, flags):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))``, FROZEN without the means.

    3e bytes per element; ReLU after a residual adds 2e.
    """
    sizes = sizes_and_steps(outer, channels, inner, slots)
    _, piece = part_at(cuda.gridDim.x - 1 - cuda.blockIdx.x, sizes, count)
    channel = piece[0]
    constants, sums = affine(table, channels, channel), (gradients[channel], gradients[channels + channel])
    terms = gradient(table, sums, channels, channel, cast(table, outer * inner))
    write_gradient_slots(dy, x, y, dx, dresidual, constants, terms, sizes, piece, flags)


@kernel
def forward_on_chip(
    x, residual, y, table, gamma, beta, running_mean, running_var, parts, counters,
    outer, channels, inner, slots, count, eps, old, new_mean, new_var, flags,
):  # fmt: skip
    """``sum_parts``, ``moments.settle`` and ``normalize`` in one, which read x once.

    2e bytes per element; a residual adds e, and without WRITES, which y needs, it is e.
    """
    sizes, thread = sizes_and_steps(outer, channels, inner, slots), cuda.threadIdx.x
    sums, column, chip = shared(table, 3, THREADS), shared(table, 6, 1), on_chip(x, 0)
    for block in range(cuda.blockIdx.x, channels * count, cuda.gridDim.x):  # see toolkit.prepared
        part, piece = part_at(block, sizes, count)
        channel = piece[0]
        fetch_slots(chip, x, sizes, piece)
        origin = element(x, channel * inner)  # before any block of the team may write y where x is
        values = parameters_of(table, (gamma, beta, running_mean, running_var), channel, flags)
        wait_for_copies()
        if flags & MEASURES:
            sum_slots(chip, origin, sums, sizes, piece)
            merge_block(sums, 1, 1)
            if count > 1:
                write_part(parts, sums, 3, part, channels, channel)
                team_barrier(counters, channel, count)
                merge_columns(parts, sums, count, channels, channel, 1)
        if thread == 0:
            measured = sums[0], origin, sums[THREADS], sums[2 * THREADS]
            running, weights = (running_mean, running_var), (old, new_mean, new_var)
            flags_here = flags if part == 0 else flags & ~HAS_RUNNING
            settle_channel(measured, values, column, 1, 0, running, channel, eps, weights, flags_here)
        cuda.syncthreads()
        if part == 0 and thread == 0 and flags & KEEPS:
            for k in range(6):
                table[k * channels + channel] = column[k]
        if flags & WRITES:
            normalize_slots(chip, residual, y, affine(column, 1, 0), sizes, piece, flags)
        cuda.syncthreads()  # the next channel's sums take the place of these


@kernel
def backward_on_chip(
    dy, x, y, dx, dresidual, table, dbeta_dgamma, parts, counters, outer, channels, inner, slots, count, flags
):
    """``sum_gradient_parts``, ``moments.settle_gradients`` and ``write_gradient`` in one, which read dy and x once.

    3e bytes per element; ReLU after a residual adds 2e, and e more where y has left the L2 cache between two reads.
    """
    sizes, thread = sizes_and_steps(outer, channels, inner, slots), cuda.threadIdx.x
    sums = shared(table, 2, THREADS)
    chip_x, chip_dy = on_chip(x, 0), on_chip(dy, (outer * slots + count - 1) // count)
    for block in range(cuda.blockIdx.x, channels * count, cuda.gridDim.x):  # see toolkit.prepared
        part, piece = part_at(block, sizes, count)
        channel = piece[0]
        fetch_slots(chip_x, x, sizes, piece)
        fetch_slots(chip_dy, dy, sizes, piece)
        constants = affine(table, channels, channel)
        wait_for_copies()
        sum_gradient_slots(chip_dy, chip_x, y, constants, sums, sizes, piece, flags)
        add_block(sums, 2, 1)
        if count > 1:
            write_part(parts, sums, 2, part, channels, channel)
            team_barrier(counters, channel, count)
            add_columns(parts, sums, count, channels, channel, 1)
        s = sums[0]
        q = without_lost(s, sums[THREADS], table, channels, channel)
        if part == 0 and thread == 0:
            dbeta_dgamma[channel], dbeta_dgamma[channels + channel] = cast(dbeta_dgamma, s), cast(dbeta_dgamma, q)
        terms = gradient(table, (s, q), channels, channel, cast(table, outer * inner))
        write_gradient_slots(chip_dy, chip_x, y, dx, dresidual, constants, terms, sizes, piece, flags)
        cuda.syncthreads()  # the next channel's sums take the place of these
