"""Memory on the device: where it is, whose it is, and its metadata as checks and layouts look at them."""

from itertools import pairwise
from math import gcd, prod

import numpy as np

from ...places import BFLOAT16

DTYPES = {name: np.dtype(name) for name in ("float16", "float32", "float64")} | {"bfloat16": BFLOAT16}


class Memory:
    """An array on the device, whatever its library."""

    __slots__ = ("address", "dtype", "owner", "readonly", "shape", "strides")

    def __init__(self, owner, address, shape, strides, dtype, readonly=False):
        self.owner = owner
        self.address = address
        self.shape = shape
        self.strides = strides
        """In bytes; None where the array is C-contiguous."""
        self.dtype = dtype
        """Name, such as ``"bfloat16"``."""
        self.readonly = readonly

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
    def alignment(self):
        """The most bytes, up to 16, that the address is a multiple of."""
        return gcd(self.address, 16)

    @property
    def end(self):
        """The address after the last element, of an array without gaps."""
        return self.address + prod(self.shape) * DTYPES[self.dtype].itemsize


def memory_of(metadata):
    """The ``Memory`` that an array of metadata is a view of."""
    base = metadata.base
    return base if isinstance(base, Memory) else base.base


def apart(memories):
    """Whether none of some arrays without gaps share any memory."""
    spans = sorted((memory.address, memory.end) for memory in memories)
    return all(end <= start for (_, end), (start, _) in pairwise(spans))
