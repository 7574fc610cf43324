"""How a call becomes launches: the types that kernels are compiled for, the blocks of each, their arguments.

Kernels are given addresses and numbers: each array would be seven arguments of a launch, and microseconds.
"""

from ctypes import c_float
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np

from ...jit import ceil_div
from . import moments, toolkit
from .memory import DTYPES, new_memory
from .policy import SETTLERS, THREADS

if toolkit.SIMULATED:
    from .simd_simulated import Simulated
else:
    from numba.cuda import types

    from .llvm import pointer_type


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

    @property
    def bytes(self):
        """Of a vector in memory."""
        return self.lanes * DTYPES[self.dtype].itemsize


class Launch:
    """One shape and dtype of data, and how its kernels are launched. One object of each kind keeps what it can."""

    def __init__(self, family, words, sizes, count, blocks, shared_bytes, *, channels, values, waits):
        self.family = family
        """The module of its kernels."""
        self.words = words
        self.sizes = sizes
        """The kernels' arguments of these names: outer, channels, inner, slots, count for ``planes``; outer, channels,
        slots, width, period, count for ``rows``."""
        self.count = count
        """Parts that a channel's values are summed in."""
        self.blocks = blocks
        self.shared_bytes = shared_bytes
        """That a block holds on chip, for the kernels that do all in one launch; 0 where several launches do."""
        self.team = count if shared_bytes and waits else 1
        """Blocks that wait for each other, and have to run at the same time; 1 if none does."""
        self.channels = channels
        self.values = values
        """Of a channel."""
        self.prepared = {}
        """Kernels that are ready to be launched, by name and device."""

    def walker(self, name, *numbers):
        """Makes a function of a space and memory that launches one of the family's kernels; ``numbers`` follow its
        sizes."""
        numbers = *self.sizes, *numbers
        return self._launching(self.family, name, numbers, self.blocks, self.shared_bytes, self.team)

    def settler(self, name, *numbers):
        """The same for one of the kernels on numbers for each channel."""
        return self._launching(moments, name, numbers, ceil_div(self.channels, THREADS // SETTLERS))

    def _launching(self, module, name, numbers, blocks, shared_bytes=0, team=1):
        kernel, kinds = getattr(module, name), module.KINDS[name]
        numbers = numbers_of(self.words, kinds, numbers)

        def launch(space, *memories):
            if blocks:  # else there is nothing to do
                key = name, space.device
                ready = self.prepared.get(key)
                if ready is None:
                    ready = self.prepared[key] = launcher(self.words, kernel, kinds, blocks, shared_bytes, team)
                ready(space.stream, memories, numbers)

        return launch


def launcher(words, kernel, kinds, blocks, shared_bytes=0, team=1):
    """A function of the stream, the memory and the numbers (see ``numbers_of``) that launches a kernel on the current
    device.

    ``shared_bytes`` each block has on chip besides what the kernel's text asks for. Blocks that are a ``team`` run at
    the same time.

    ``kinds`` has a letter for each argument. First memory: of data (d), of numbers for each channel in the dtype that
    is computed in (n) or that of the parameters (p), or of counters (c). Then numbers: an integer of 32 or 64 bits (i,
    l); one of the dtype that is computed in (f).
    """
    if toolkit.SIMULATED:
        launch = toolkit.simulated(kernel, blocks, THREADS, shared_bytes, team)
        known = partial(_simulated, words)
        return lambda stream, memories, numbers: launch(*map(known, kinds, memories), *numbers)
    return toolkit.prepared(kernel, types_of(words, kinds), blocks, THREADS, shared_bytes, team)


def numbers_of(words, kinds, numbers):
    """A kernel's numbers, the last of its arguments, as it is launched with them.

    A float32 goes by its bits: cuda.core packs an integer much faster than a float of ctypes.
    """
    as_passed = _bits if words.real == "float32" else float
    real = np.dtype(words.real).type if toolkit.SIMULATED else as_passed
    pairs = zip(kinds[-len(numbers) :], numbers, strict=True)
    return [real(number) if kind == "f" else number for kind, number in pairs]


def _bits(value):
    return int.from_bytes(c_float(value), "little")


def types_of(words, kinds):
    """Numba's types of a kernel's arguments."""
    real, parameter = getattr(types, words.real), getattr(types, words.parameter)
    numbers, parameters = types.CPointer(real), types.CPointer(parameter)
    known = {"d": pointer_type(*words), "n": numbers, "p": parameters, "c": types.CPointer(types.int32)}
    known |= {"i": types.int32, "l": types.int64, "f": real}
    return tuple(known[kind] for kind in kinds)


def _simulated(words, kind, value):
    """As kernels see memory in the simulator."""
    flat = np.asarray(new_memory(value.owner, value.address, (prod(value.shape),), value.dtype))
    if kind == "c":
        return Simulated(flat.view(np.int32), None, np.int32)
    if kind != "d":
        return Simulated(flat, None, words.real)
    flat = flat.view(np.uint16) if value.dtype == "bfloat16" else flat
    return Simulated(flat, words.lanes, words.real, words.ragged)
