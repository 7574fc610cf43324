"""How a call becomes launches: the type of what kernels read, the blocks of each, their arguments.

Kernels are given addresses and numbers: each array would be seven arguments of a launch, and microseconds.
"""

from typing import NamedTuple

import numpy as np

from ...jit import ceil_div
from . import planes, rows
from .policy import SETTLERS, THREADS, VECTORS, WIDTH
from .toolkit import SIMULATED

if not SIMULATED:
    from numba.cuda import types

    from .simd import pointer_type


class Launch(NamedTuple):
    """One shape and dtype of data, and how its kernels are launched."""

    family: object
    """The module of its kernels."""
    dtype: str
    """Of the data, by NumPy's name."""
    lanes: int
    """Elements that are read at a time."""
    sizes: tuple[int, int, int]
    """For kernels of ``planes``, outer, channels and the vectors of a row; for ``rows``, outer, vectors of channels and
    how many of them a block takes."""
    count: int
    """Parts that a channel's values are summed in."""
    blocks: int
    channels: int
    values: int
    """Of a channel."""

    @property
    def real(self):
        """The dtype that is computed in, and that of the table and the parameters."""
        return np.dtype(np.float64 if self.dtype == "float64" else np.float32)


def launch_for(shape, dtype):
    """How canonical arrays of a shape are launched, each of which begins at a multiple of 16 bytes."""
    outer, channels, inner = shape
    lanes = 16 // (8 if dtype == "float64" else 4 if dtype == "float32" else 2)
    if (inner if inner > 1 else channels) % lanes:
        lanes = 1
    if inner > 1:
        count = ceil_div(outer * inner // lanes, THREADS * VECTORS)
        sizes = outer, channels, inner // lanes
        return Launch(planes, dtype, lanes, sizes, count, channels * count, channels, outer * inner)
    vectors = channels // lanes
    width = min(WIDTH, 1 << (vectors - 1).bit_length())
    count = ceil_div(outer, THREADS // width * VECTORS)
    return Launch(rows, dtype, lanes, (outer, vectors, width), count, ceil_div(vectors, width) * count, channels, outer)


def run(launch, kernel, blocks, kinds, *values):
    """Launch a kernel.

    ``kinds`` has a letter for each argument: memory of data (d) or of numbers for each channel (n), an integer of 32 or
    64 bits (i, l), a number of the dtype that is computed in (f).
    """
    if SIMULATED:
        values = [_simulated(launch, kind, value) for kind, value in zip(kinds, values, strict=True)]
        kernel[blocks, THREADS](*values)
        return
    real = types.float64 if launch.real == np.float64 else types.float32
    data = pointer_type(launch.dtype, launch.lanes)
    types_of = {"d": data, "n": types.CPointer(real), "i": types.int32, "l": types.int64, "f": real}
    values = [_address(value) if kind in "dn" else value for kind, value in zip(kinds, values, strict=True)]
    compiled = kernel.compile(tuple(types_of[kind] for kind in kinds))
    compiled.launch(values, (blocks, 1, 1), (THREADS, 1, 1))


def _address(memory):
    """Of what ``toolkit.upload`` and ``toolkit.empty`` give."""
    return memory.__cuda_array_interface__["data"][0]


def _simulated(launch, kind, value):
    """As kernels see arguments in the simulator."""
    if kind == "d":
        return value.reshape(-1, launch.lanes)
    return launch.real.type(value) if kind == "f" else value


def settling_blocks(launch):
    """Blocks of the kernels that settle statistics and gradients."""
    return ceil_div(launch.channels, THREADS // SETTLERS)
