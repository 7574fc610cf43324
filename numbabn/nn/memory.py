"""Memory that layers keep, memory that gradients pass through, and the order of images in it.

Layers see images as (N, C, H, W). In memory, convolutions write (N, H, W, C) and present it transposed; the layers
that follow keep the order they are given, whatever it is.
"""

import threading
from functools import partial
from math import prod

import numpy as np

from ..layout import ordered_like


class Buffers:
    """Named arrays that a layer writes to again and again; one grows when a larger batch comes.

    Fresh memory costs more time than most layers' arithmetic, which is why each layer has its own of these.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn.nn.memory import Buffers
    >>> buffers = Buffers()
    >>> full = buffers.take("y", (64, 10), np.float32)
    >>> rest = buffers.take("y", (29, 10), np.float32)
    >>> rest.shape, np.shares_memory(full, rest)
    ((29, 10), True)
    """

    def __init__(self):
        self._kept = {}

    def take(self, name: str, shape: tuple[int, ...], dtype, *apart) -> np.ndarray:
        """An array in C order. What it holds is whatever was last written there.

        It is new memory if it would share some with the arrays ``apart`` (those may be None), such as a layer's input
        that is its own last output.
        """
        size = prod(shape)
        kept = self._kept.get(name)
        if (
            kept is None
            or kept.size < size
            or kept.dtype != dtype
            or any(array is not None and np.may_share_memory(kept, array) for array in apart)
        ):
            kept = self._kept[name] = np.empty(size, dtype)
        return kept[:size].reshape(shape)

    def like(self, name: str, x: np.ndarray, *apart) -> np.ndarray:
        """An array of the shape, dtype and memory order of ``x``; the order is C where ``x`` has gaps in memory."""
        return ordered_like(x, lambda shape: self.take(name, shape, x.dtype, x, *apart))

    def channels_last(self, name: str, x: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) as contiguous (N, H, W, C): a view where they lie so in memory, else a copy."""
        return self.contiguous(name, x.transpose(0, 2, 3, 1))

    def contiguous(self, name: str, x: np.ndarray) -> np.ndarray:
        """``x`` itself where it is in C order, else a copy that is."""
        return _contiguous(x, partial(self.take, name))


class Pool:
    """Memory for short-lived arrays: a piece is used again as soon as no array refers to it.

    Few of a network's gradients are needed at a time: with memory of their own in each layer, they would take as much
    as the activations do.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn.nn.memory import Pool
    >>> pool = Pool()
    >>> first = pool.take((512, 1024), np.float32)
    >>> address = first.ctypes.data
    >>> second = pool.take((512, 1024), np.float32)
    >>> np.shares_memory(first, second)
    False
    >>> del first
    >>> pool.take((64, 1024), np.float64).ctypes.data == address
    True
    """

    SMALL = 2**16
    """Bytes of arrays that NumPy makes without asking the system for pages."""
    KEPT = 32
    """Most pieces that wait for their next use."""

    def __init__(self):
        self._free: dict[int, np.ndarray] = {}  # by address

    def take(self, shape: tuple[int, ...], dtype) -> np.ndarray:
        """A new array in C order, that holds anything. It is the caller's, like any other array."""
        dtype = np.dtype(dtype)
        size = prod(shape) * dtype.itemsize
        if size < self.SMALL:
            return np.empty(shape, dtype)
        return np.asarray(_Lease(self, *self._piece(size), shape, dtype))

    def like(self, x: np.ndarray, dtype=None) -> np.ndarray:
        """A new array of the shape and memory order of ``x``, and of its dtype unless another is given."""
        dtype = x.dtype if dtype is None else dtype
        return ordered_like(x, lambda shape: self.take(shape, dtype))

    def channels_last(self, x: np.ndarray) -> np.ndarray:
        """As that of ``Buffers``."""
        return self.contiguous(x.transpose(0, 2, 3, 1))

    def contiguous(self, x: np.ndarray) -> np.ndarray:
        """As that of ``Buffers``."""
        return _contiguous(x, self.take)

    def _piece(self, size):
        """The smallest free piece that is large enough. Else a new one takes the place of the largest that is not.

        So there are never more pieces than arrays at a time.
        """
        free = sorted([(piece.nbytes, address) for address, piece in self._waiting()])
        for nbytes, address in free:
            if nbytes >= size:
                piece = self._free.pop(address, None)
                if piece is not None:
                    return address, piece
        if free:
            self._free.pop(free[-1][1], None)
        piece = np.empty(size, np.uint8)
        return piece.ctypes.data, piece

    def _waiting(self):
        """The free pieces now. No lock guards them: an array may die, and give its piece back, in the midst of this."""
        while True:
            try:
                return list(self._free.items())
            except RuntimeError:  # a garbage collection gave some back in the midst of this
                continue

    def give_back(self, address: int, piece: np.ndarray) -> None:
        """Let others have it."""
        if len(self._free) < self.KEPT:
            self._free[address] = piece


class _Lease:
    """What an array of a pool refers to as its owner, as do all views of it: it lives as long as any of them."""

    def __init__(self, pool, address, piece, shape, dtype):
        self._pool, self._address, self._piece = pool, address, piece
        self.__array_interface__ = {"shape": shape, "typestr": dtype.str, "data": (address, False), "version": 3}

    def __del__(self):
        self._pool.give_back(self._address, self._piece)


gradients = Pool()
"""Memory of all layers' gradients."""


def _contiguous(x, take):
    if x.flags.c_contiguous:
        return x
    copy = take(x.shape, x.dtype)
    np.copyto(copy, x)
    return copy


class _Scratch(threading.local):
    """Memory that is free again after each call, of which every Python thread has its own for all its layers."""

    def __init__(self):
        self._kept = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array in C order, aligned to 64 bytes."""
        size = prod(shape)
        kept = self._kept.get((name, dtype))
        if kept is None or kept.size < size:
            line = 64 // dtype.itemsize
            memory = np.empty(size + line, dtype)
            start = -memory.ctypes.data % 64 // dtype.itemsize
            kept = self._kept[name, dtype] = memory[start : start + size]
        return kept[:size].reshape(shape)


scratch = _Scratch()
"""Memory that a call needs until it returns."""
