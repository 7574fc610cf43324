"""Memory that layers keep, and the order of images in it.

Layers see images as (N, C, H, W). In memory, convolutions write (N, H, W, C) and present it transposed; the layers
that follow keep the order they are given, whatever it is.
"""

import threading
from math import prod

import numpy as np

from .. import layout


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

    def take(self, name: str, shape: tuple[int, ...], dtype) -> np.ndarray:
        """An array in C order. What it holds is whatever was last written there."""
        size = prod(shape)
        kept = self._kept.get(name)
        if kept is None or kept.size < size or kept.dtype != dtype:
            kept = self._kept[name] = np.empty(size, dtype)
        return kept[:size].reshape(shape)

    def like(self, name: str, x: np.ndarray, dtype=None) -> np.ndarray:
        """An array of the shape and memory order of ``x``, and of its dtype unless another is given.

        The order is kept where ``x`` lies in memory without gaps; else it is C order.
        """
        dtype = x.dtype if dtype is None else dtype
        if x.ndim == 0:
            return self.take(name, (), dtype)
        view = layout.view(x, 0)
        return view.back(self.take(name, view.canonical, dtype))

    def channels_last(self, name: str, x: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) as contiguous (N, H, W, C): a view where they lie so in memory, else a copy."""
        return self.contiguous(name, x.transpose(0, 2, 3, 1))

    def contiguous(self, name: str, x: np.ndarray) -> np.ndarray:
        """``x`` itself where it is in C order, else a copy that is."""
        if x.flags.c_contiguous:
            return x
        copy = self.take(name, x.shape, x.dtype)
        np.copyto(copy, x)
        return copy


class _Scratch(threading.local):
    """Memory that is free again after each call, of which every Python thread has its own for all its layers."""

    def __init__(self):
        self._buffers = Buffers()

    def take(self, name: str, shape: tuple[int, ...], dtype) -> np.ndarray:
        """An array in C order, like ``Buffers.take``; at an address that vectors may be read from in one piece."""
        line = 64 // np.dtype(dtype).itemsize
        memory = self._buffers.take(f"{name} {np.dtype(dtype)}", (prod(shape) + line,), dtype)
        start = -memory.ctypes.data % 64 // memory.itemsize
        return memory[start : start + prod(shape)].reshape(shape)


scratch = _Scratch()


def thread_numbers() -> int:
    """Upper bound of thread numbers. Asking starts the threads: kernels loaded from the cache crash otherwise."""
    import numba

    return max(numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
