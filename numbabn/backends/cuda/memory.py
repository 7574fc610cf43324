"""Memory on the device: where it is, whose it is, and its metadata as checks and layouts look at them."""

from math import gcd, prod
from typing import NamedTuple

import numpy as np

from ...places import BFLOAT16

DTYPES = {name: np.dtype(name) for name in ("float16", "float32", "float64")} | {"bfloat16": BFLOAT16}

BYTES = 16
"""Most that are read and written at a time."""


class Metadata(NamedTuple):
    """What ``Memory.metadata`` has, in this order, as a plain tuple, which is made faster."""

    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    """In bytes; None where the array is C-contiguous."""
    dtype: str
    """NumPy's name for it, or ``"bfloat16"``."""
    readonly: bool


class Memory:
    """An array on the device, whatever its library."""

    __slots__ = ("address", "metadata", "owner")

    def __init__(self, owner, address, metadata):
        self.owner = owner
        self.address = address
        self.metadata = metadata
        """A tuple of ``Metadata``'s fields."""

    @property
    def shape(self):
        return self.metadata[0]

    @property
    def strides(self):
        return self.metadata[1]

    @property
    def dtype(self):
        return self.metadata[2]

    @property
    def readonly(self):
        return self.metadata[3]

    @property
    def __array_interface__(self):
        """What NumPy makes an array of that has this metadata.

        Its elements must not be touched: the address is the device's. (0 is the address of no elements, for which NumPy
        would allocate some.)
        """
        dtype = DTYPES[self.dtype]
        data = self.address or dtype.itemsize, self.readonly
        return {"typestr": dtype.str, "shape": self.shape, "strides": self.strides, "data": data, "version": 3}

    @property
    def nbytes(self):
        """Of all elements."""
        return prod(self.shape) * DTYPES[self.dtype].itemsize


def new_memory(owner, address, shape, dtype, strides=None):
    """Memory for an array that nobody has seen yet."""
    return Memory(owner, address, (shape, strides, dtype, False))


def alignment(addresses):
    """The most bytes, up to BYTES, that all addresses are multiples of."""
    return gcd(BYTES, *addresses)


def memory_of(metadata):
    """The ``Memory`` that an array of metadata is a view of."""
    base = metadata.base
    return base if isinstance(base, Memory) else base.base


def apart(addresses, sizes):
    """Whether none of some pieces of memory share any."""
    end = 0
    for address, size in sorted(zip(addresses, sizes, strict=True)):
        if address < end:
            return False
        end = address + size
    return True
