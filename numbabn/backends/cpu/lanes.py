"""Scratch memory of the kernels, one number for each lane: constants, and sums on their way to float64.

Constants stand in rows, each as long as the matrix is wide. The two sums of a run stand side by side, a vector of the
one and a vector of the other, so that they share a page: far apart, they evict each other and x at every 4 KB step.
"""

from typing import NamedTuple

import numpy as np

from ...jit import device, noinline
from .memory import accumulate, cast, empty, lanes_of, load, store
from .simd import splat

DOUBLE = np.zeros(1)
"""Something that is float64."""


class Work(NamedTuple):
    """Memory that a thread takes lanes through both walks with."""

    values: np.ndarray
    """Rows of constants (see ``spans``), one column a channel."""
    lanes: np.ndarray
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
    size = lanes_of(x)
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
    """So many lanes and those that a vector of float32 may overrun."""
    return (lanes + 15) // 16 * 16


@device
def fill(lanes, row, first, count, value):
    """Set ``count`` lanes of a row of constants to one value."""
    vector = splat(value)
    for j in range(0, count, lanes_of(lanes)):
        store(lanes, row * lanes.shape[1] + first + j, count - j, vector)


@device
def spread(values, rows, lanes, shape, count):
    """Give rows of the constants of channels to their lanes, ``count`` of them, and the first once more behind."""
    noinline()
    inner, size = shape[2], lanes_of(values)
    base = min(count, shape[1] * inner)
    zero = splat(cast(values, 0.0))
    for row in range(rows[0], rows[1]):
        start = row * lanes.shape[1]
        if inner == 1:
            for lane in range(0, base, size):
                store(lanes, start + lane, base - lane, load(values, row * values.shape[1] + lane, size, zero))
        else:
            for lane in range(0, base, inner):
                fill(lanes, row, lane, inner, values[row, lane // inner])
        step = min(base, size)
        for lane in range(base, lanes.shape[1], step):
            n = min(step, lanes.shape[1] - lane)
            store(lanes, start + lane, n, load(lanes, start + lane - base, n, zero))


@device
def clear_run(run, count):
    """Set the first ``count`` lanes of a run's sums to 0."""
    size = lanes_of(run)
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
    size = lanes_of(run)
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
