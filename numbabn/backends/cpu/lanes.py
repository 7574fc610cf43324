"""Scratch memory of the kernels: a number for each channel or lane, of constants and of sums on their way to float64.

Constants stand in rows of a matrix, a row for each letter (see ``constants``). The two sums of a run stand side by
side, a vector of the one and a vector of the other, so that they share a page: far apart, they evict each other and x
at every 4 KB step.
"""

from typing import NamedTuple

import numpy as np

from ...jit import ceil_div, device, noinline
from .memory import accumulate, cast, empty, load, store, vector_length
from .simd import splat

DOUBLE = np.zeros(1)
"""Something that is float64."""


class Work(NamedTuple):
    """Memory that a thread takes lanes through both walks with."""

    by_channel: np.ndarray
    """Constants, one column a channel."""
    by_lane: np.ndarray
    """The same, one column a lane, and the first ones once more behind: a vector may overrun the last."""
    run: np.ndarray
    """The two sums of a run, in the dtype of the data."""
    partial: np.ndarray
    """Two rows: sums over a part, float64."""
    sums: np.ndarray
    """Two rows: sums over all parts, float64; in the end one column a channel."""


@device
def workspace(x, rows, lanes):
    """Memory for so many rows of constants of so many lanes of ``x``."""
    return Work(scratch(x, rows, lanes), scratch(x, rows, lanes), run_memory(x, lanes), totals(lanes), totals(lanes))


@device
def scratch(x, rows, lanes):
    """Zeroed memory in the dtype of ``x`` for rows of constants, which a vector may overrun."""
    noinline()
    size = vector_length(x)
    memory = empty(x, rows, (lanes + 2 * size - 1) // size * size)
    zero = splat(cast(x, 0.0))
    for j in range(0, memory.size, size):
        store(memory, j, size, zero)
    return memory


@device
def run_memory(x, lanes):
    """Memory for the two sums of a run."""
    return scratch(x, 2, lanes)


@device
def totals(lanes):
    """Memory for two rows of float64 sums, which a vector of float32 may overrun."""
    return empty(DOUBLE, 2, padded(lanes))


@device
def padded(lanes):
    """So many lanes and those that a vector of float32, the longest, may overrun."""
    return ceil_div(lanes, 16) * 16


@device
def all_true(count):
    """An array of as many truths. (NumPy's ``full`` takes Numba seconds to compile.)"""
    truths = np.empty(count, np.bool_)
    for i in range(count):
        truths[i] = True
    return truths


@device
def spread(by_channel, rows, by_lane, shape, count):
    """Give a range of rows of constants to the lanes, ``count`` of them, and the first ones once more behind."""
    noinline()
    inner, size = shape[2], vector_length(by_channel)
    base = min(count, shape[1] * inner)
    zero = splat(cast(by_channel, 0.0))
    for row in range(rows[0], rows[1]):
        first, source = row * by_lane.shape[1], row * by_channel.shape[1]
        if inner == 1:
            for lane in range(0, base, size):
                store(by_lane, first + lane, base - lane, load(by_channel, source + lane, size, zero))
        else:
            for channel in range(base // inner):
                value = splat(by_channel[row, channel])
                for lane in range(channel * inner, (channel + 1) * inner, size):
                    store(by_lane, first + lane, size, value)  # what is too much is written over
        step = min(base, size)
        for lane in range(base, by_lane.shape[1], step):
            n = min(step, by_lane.shape[1] - lane)
            store(by_lane, first + lane, n, load(by_lane, first + lane - base, n, zero))


@device
def clear_run(run, count):
    """Set the first ``count`` lanes of a run's sums to 0."""
    size = vector_length(run)
    zero = splat(cast(run, 0.0))
    for j in range(0, count, size):
        store(run, 2 * j, size, zero)
        store(run, 2 * j + size, size, zero)


@device
def clear(sums, first, last):
    """Set lanes of sums to 0."""
    for row in range(2):
        for lane in range(first, last):
            sums[row, lane] = 0.0


@device
def add_run(run, count, out, first):
    """Add ``count`` lanes of a run's sums to lanes of ``out``, in float64."""
    size = vector_length(run)
    zero = splat(cast(run, 0.0))
    for row in range(2):
        for j in range(0, count, size):
            accumulate(out, row * out.shape[1] + first + j, load(run, 2 * j + row * size, count - j, zero))


@device
def add_sums(sums, count, out):
    """Add ``count`` lanes of sums in float64."""
    for row in range(2):
        for lane in range(count):
            out[row, lane] += sums[row, lane]


@device
def add_lanes(sums, shape, count):
    """``sums[:, channel]``: what the lanes of a channel have, added up; ``count`` is the number of lanes."""
    noinline()
    inner = shape[2]
    base = shape[1] * inner
    if inner == 1 and count <= base:
        return
    for channel in range(min(count, base) // inner):
        s = q = 0.0
        for first in range(channel * inner, count, base):
            for lane in range(first, first + inner):
                s += sums[0, lane]
                q += sums[1, lane]
        sums[0, channel], sums[1, channel] = s, q
