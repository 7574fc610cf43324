"""The one view that kernels see: ``(outer, channels, inner)``, C-contiguous. Nothing else reshapes a call's arrays.

An array whose axes, put in the order in which they lie in memory, are contiguous is viewed without a copy, whatever
order it presents them in::

    NCHW, axis=1                                  -> (N, C, H*W)
    NHWC, axis=-1                                 -> (N*H*W, C, 1)
    NHWC in memory, presented as NCHW, axis=1     -> (N*H*W, C, 1)

Any other array (a slice with gaps, a broadcast, a reversed axis) is copied once.
"""

import functools
from math import prod
from typing import NamedTuple

import numpy as np


class View(NamedTuple):
    """How arrays like one given array become ``(outer, channels, inner)`` and come back."""

    shape: tuple[int, ...]
    """Shape of the array as its owner sees it."""
    order: tuple[int, ...] | None
    """Its axes from slowest to fastest in memory; None where that is the order they are in."""
    canonical: tuple[int, int, int]
    """``(outer, channels, inner)``."""

    def fits(self, array: np.ndarray) -> bool:
        """Whether ``of`` views ``array`` without a copy."""
        ordered = array if self.order is None else array.transpose(self.order)
        return ordered.flags.c_contiguous and ordered.flags.aligned

    def of(self, array: np.ndarray) -> np.ndarray:
        """The canonical view of ``array``; a copy only where no view fits."""
        if self.order is not None:
            array = array.transpose(self.order)
        flags = array.flags
        if not (flags.c_contiguous and flags.aligned):
            array = array.copy(order="C")
        return array.reshape(self.canonical)

    def back(self, array: np.ndarray) -> np.ndarray:
        """The inverse: a canonical array in its owner's shape."""
        if self.order is None:
            return array.reshape(self.shape)
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return array.reshape([self.shape[axis] for axis in self.order]).transpose(inverse)


def ordered_like(x: np.ndarray, take) -> np.ndarray:
    """An array of the shape of ``x``, and of its memory order where that has no gaps; else in C order.

    ``take`` makes an array in C order of a shape.

    Examples
    --------
    >>> nhwc = np.zeros((2, 5, 7, 3), np.float32)
    >>> ordered_like(nhwc.transpose(0, 3, 1, 2), np.empty).transpose(0, 2, 3, 1).flags.c_contiguous
    True
    """
    if x.flags.c_contiguous:
        return take(x.shape)
    if x.ndim == 4 and (pixels := x.transpose(0, 2, 3, 1)).flags.c_contiguous:  # as most images lie
        return take(pixels.shape).transpose(0, 3, 1, 2)
    found = view(x, 0)
    return found.back(take(found.canonical))


def view(x: np.ndarray, axis: int) -> View:
    """Find the canonical view of ``x`` with its channels on the non-negative ``axis``.

    Examples
    --------
    >>> nhwc = np.zeros((2, 5, 7, 3), np.float32)
    >>> view(nhwc, 3).canonical
    (70, 3, 1)
    >>> view(nhwc.transpose(0, 3, 1, 2), 1).canonical
    (70, 3, 1)
    >>> view(np.zeros((2, 3, 5, 7), np.float32), 1).canonical
    (2, 3, 35)
    """
    shape = x.shape
    if x.flags.c_contiguous:
        return _as_it_lies(shape, axis)
    order = tuple(sorted(range(x.ndim), key=lambda a: -x.strides[a]))
    if not x.transpose(order).flags.c_contiguous:
        return _as_it_lies(shape, axis)
    place = order.index(axis)
    sizes = [shape[a] for a in order]
    return View(shape, order, (prod(sizes[:place]), shape[axis], prod(sizes[place + 1 :])))


def strides_of(shape, order, itemsize):
    """Bytes from an element to the next on each axis, of a new array whose axes are in this order in memory."""
    strides, step = [0] * len(shape), itemsize
    for axis in reversed(order):
        strides[axis] = step
        step *= max(1, shape[axis])
    return tuple(strides)


@functools.lru_cache(maxsize=1024)
def _as_it_lies(shape, axis):
    return View(shape, None, (prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])))
