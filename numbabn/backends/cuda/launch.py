"""How a call becomes launches: the types that kernels are compiled for, the blocks of each, their arguments.

Kernels are given addresses and numbers: each array would be seven arguments of a launch, and microseconds.
"""

from ctypes import c_float
from functools import lru_cache, partial
from math import gcd, prod
from typing import NamedTuple

import numpy as np

from ...jit import ceil_div
from ..host import FEW
from . import moments, planes, rows, toolkit
from .memory import DTYPES, Memory
from .policy import BLOCKS, LEAST_VECTORS, RAGGED_FROM, SETTLERS, THREADS, VECTORS, WIDTH

if toolkit.SIMULATED:
    from .simd_simulated import Simulated
else:
    from numba.cuda import types

    from .simd_compiled import pointer_type


class Words(NamedTuple):
    """What kernels are compiled for."""

    dtype: str
    """Of data, by NumPy's name."""
    lanes: int
    """Elements that are read at a time."""
    real: str
    """The dtype that is computed in, and that of the table."""
    ragged: bool = False
    """Whether rows of elements may begin and end within a vector."""

    @property
    def parameter(self):
        """The dtype of gamma, beta and running statistics."""
        return "float64" if self.dtype == "float64" else "float32"


class Launch:
    """One shape and dtype of data, and how its kernels are launched. One object of each kind keeps what it can."""

    __slots__ = ("blocks", "channels", "count", "family", "prepared", "sizes", "values", "words")

    def __init__(self, family, words, sizes, count, blocks, channels, values):
        self.family = family
        """The module of its kernels."""
        self.words = words
        self.sizes = sizes
        """For kernels of ``planes``, outer, channels, inner and the slots of a row; for ``rows``, outer, vectors of
        channels and how many of them a block takes."""
        self.count = count
        """Parts that a channel's values are summed in."""
        self.blocks = blocks
        self.channels = channels
        self.values = values
        """Of a channel."""
        self.prepared = {}
        """Kernels that are ready to be launched, by name and device."""

    def walk(self, space, name, *arguments):
        """Launch one of the family's kernels; on no elements there is nothing to do."""
        if self.blocks:
            self._run(space, self.family, name, self.blocks, (*arguments[0], *self.sizes, self.count, *arguments[1:]))

    def settle(self, space, name, *arguments):
        """Launch one of the kernels on numbers for each channel."""
        if self.channels:
            self._run(space, moments, name, ceil_div(self.channels, THREADS // SETTLERS), arguments)

    def _run(self, space, module, name, blocks, arguments):
        key = name, space.device
        if key not in self.prepared:
            kinds = module.KINDS[name]
            self.prepared[key] = launcher(self.words, getattr(module, name), kinds, blocks)
        self.prepared[key](space.stream, arguments)


@lru_cache(maxsize=1024)
def launch_for(shape, dtype, alignment, training):
    """How canonical arrays of a shape are launched; all their addresses are multiples of ``alignment``, at most 16.

    The gradient in training on very few values per channel is little but what two almost equal terms differ by: these
    are computed in float64.
    """
    outer, channels, inner = shape
    values = outer * inner
    real = "float64" if dtype == "float64" or (training and values <= FEW) else "float32"
    lanes = max(1, alignment // DTYPES[dtype].itemsize)
    if inner > 1:
        ragged = inner % lanes > 0 and inner >= RAGGED_FROM * lanes
        lanes = lanes if ragged else gcd(lanes, inner)
        slots = ceil_div(inner + lanes - 1, lanes) if ragged else inner // lanes
        count = _parts(outer * slots, channels, THREADS)
        sizes = outer, channels, inner, slots
        return Launch(planes, Words(dtype, lanes, real, ragged), sizes, count, channels * count, channels, values)
    lanes = gcd(lanes, channels) or 1
    vectors = channels // lanes
    width = min(WIDTH, 1 << (vectors - 1).bit_length()) if vectors else 1
    tiles = ceil_div(vectors, width)
    count = _parts(values, tiles, THREADS // width)
    return Launch(rows, Words(dtype, lanes, real), (values, vectors, width), count, tiles * count, channels, values)


def _parts(size, columns, threads):
    """Parts of each of some columns of vectors, of which ``threads`` take one at a time."""
    each = min(VECTORS, max(LEAST_VECTORS, ceil_div(size * columns, BLOCKS * threads)))
    return ceil_div(size, threads * each)


def launcher(words, kernel, kinds, blocks):
    """A function of the stream and the arguments that launches a kernel on the current device.

    ``kinds`` has a letter for each argument: memory of data (d), of numbers for each channel in the dtype that is
    computed in (n) or that of the parameters (p); an integer of 32 or 64 bits (i, l); a number of the dtype that is
    computed in (f).
    """
    if toolkit.SIMULATED:
        return lambda stream, arguments: kernel[blocks, THREADS](*map(partial(_simulated, words), kinds, arguments))
    launch = toolkit.prepared(kernel, types_of(words, kinds), blocks, THREADS)
    if "f" in kinds and words.real == "float32":

        def launch_with_floats(stream, arguments):
            values = zip(kinds, map(_argument, arguments), strict=True)
            launch(stream, [c_float(value) if kind == "f" else value for kind, value in values])

        return launch_with_floats
    return lambda stream, arguments: launch(stream, map(_argument, arguments))


def _argument(value):
    return value.address if type(value) is Memory else value


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
    if kind != "d":
        return Simulated(flat, None, words.real)
    flat = flat.view(np.uint16) if value.dtype == "bfloat16" else flat
    return Simulated(flat, words.lanes, words.real, words.ragged)
