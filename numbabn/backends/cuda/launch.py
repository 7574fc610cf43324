"""How a call becomes launches: the types that kernels are compiled for, the blocks of each, their arguments.

Kernels are given addresses and numbers: each array would be seven arguments of a launch, and microseconds.
"""

from ctypes import c_float
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from ...jit import ceil_div
from ..host import FEW
from . import planes, rows, toolkit
from .memory import DTYPES, Memory
from .policy import SETTLERS, THREADS, VECTORS, WIDTH

if toolkit.SIMULATED:
    from .simd import Simulated
else:
    from numba.cuda import types

    from .simd import pointer_type


class Words(NamedTuple):
    """What kernels are compiled for."""

    dtype: str
    """Of data, by NumPy's name."""
    lanes: int
    """Elements that are read at a time."""
    real: str
    """The dtype that is computed in, and that of the table."""

    @property
    def parameter(self):
        """The dtype of gamma, beta and running statistics."""
        return "float64" if self.dtype == "float64" else "float32"


class Launch(NamedTuple):
    """One shape and dtype of data, and how its kernels are launched."""

    family: object
    """The module of its kernels."""
    words: Words
    sizes: tuple[int, int, int]
    """For kernels of ``planes``, outer, channels and the vectors of a row; for ``rows``, outer, vectors of channels and
    how many of them a block takes."""
    count: int
    """Parts that a channel's values are summed in."""
    blocks: int
    channels: int
    values: int
    """Of a channel."""


@lru_cache(maxsize=1024)
def launch_for(shape, dtype, aligned, training):
    """How canonical arrays of a shape are launched; ``aligned`` tells whether all begin at a multiple of 16 bytes.

    The gradient in training on very few values per channel is little but what two almost equal terms differ by: these
    are computed in float64.
    """
    outer, channels, inner = shape
    values = outer * inner
    real = "float64" if dtype == "float64" or (training and values <= FEW) else "float32"
    lanes = 16 // DTYPES[dtype].itemsize
    if not aligned or (inner if inner > 1 else channels) % lanes:
        lanes = 1
    words = Words(dtype, lanes, real)
    if inner > 1:
        count = ceil_div(outer * inner // lanes, THREADS * VECTORS)
        return Launch(planes, words, (outer, channels, inner // lanes), count, channels * count, channels, values)
    vectors = channels // lanes
    width = min(WIDTH, 1 << (vectors - 1).bit_length()) if vectors else 1
    count = ceil_div(values, THREADS // width * VECTORS)
    return Launch(rows, words, (values, vectors, width), count, ceil_div(vectors, width) * count, channels, values)


def run(space, words, kernel, blocks, kinds, *values):
    """Launch a kernel.

    ``kinds`` has a letter for each argument: memory of data (d), of numbers for each channel in the dtype that is
    computed in (n) or that of the parameters (p); an integer of 32 or 64 bits (i, l); a number of the dtype that is
    computed in (f).
    """
    if toolkit.SIMULATED:
        kernel[blocks, THREADS](*(_simulated(words, kind, value) for kind, value in zip(kinds, values, strict=True)))
        return
    arguments = [value.address if isinstance(value, Memory) else value for value in values]
    if words.real == "float32":
        arguments = [c_float(value) if kind == "f" else value for kind, value in zip(kinds, arguments, strict=True)]
    toolkit.prepared(kernel, types_of(words, kinds), blocks, THREADS, space.device)(space.stream, arguments)


@lru_cache(maxsize=1024)
def types_of(words, kinds):
    """Numba's types of a kernel's arguments."""
    real, parameter = getattr(types, words.real), getattr(types, words.parameter)
    numbers, parameters = types.CPointer(real), types.CPointer(parameter)
    known = {"d": pointer_type(*words), "n": numbers, "p": parameters, "i": types.int32, "l": types.int64, "f": real}
    return tuple(known[kind] for kind in kinds)


def _simulated(words, kind, value):
    """As kernels see arguments in the simulator."""
    if not isinstance(value, Memory):
        return np.dtype(words.real).type(value) if kind == "f" else value
    flat = np.asarray(Memory(value.owner, value.address, (prod(value.shape),), None, value.dtype))
    if kind == "d":
        flat = (flat.view(np.uint16) if value.dtype == "bfloat16" else flat).reshape(-1, words.lanes)
    return Simulated(flat, words.real)


def settling_blocks(launch):
    """Blocks of the kernels that settle statistics and gradients."""
    return ceil_div(launch.channels, THREADS // SETTLERS)
