"""Convolution and its gradients on contiguous channels-last images: cuts the work, finds memory, calls the kernels.

Images are (N, H, W, C), weights (F, C, height, width). The gradient by the input is itself a convolution, of dy with
the weights turned around; with a stride, one for each of the pixels that a step covers.
"""

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from . import products
from .memory import Buffers, gradients, scratch, thread_numbers
from .module import Parameter
from .window import Window

BAND_PLACES = 192
"""Places per band, at least a row: with 16 channels, some 30 KB of what they see and of results. With twice as many the
weights' gradient takes a fifth longer there, with a third as many a tenth; all else is alike from 64 to 1,024."""

PARTS = 8
"""Most parts that are summed apart in the weights' gradient."""

PARTS_BYTES = 2**26
"""Most memory for those parts."""


class Places(NamedTuple):
    """Where a convolution writes, in elements of an image of the result."""

    first: int
    row: int
    """From a row of places to the next."""
    filters: int
    to: np.ndarray
    """For each place of a band, and for the rest of the last tile: how far it is behind the band's first."""
    from_: np.ndarray
    """The same for what the place sees, in the memory of the band."""


def convolve(x: np.ndarray, weight: np.ndarray, bias, residual, relu: bool, window: Window, buffers: Buffers):
    """``weight * x + bias + residual``, shape (N, rows, columns, F), rectified if ``relu``.

    ``bias`` is a vector or None, ``residual`` contiguous and of the result's shape, or None.
    """
    shape = (len(x), window.rows, window.columns, len(weight))
    y = buffers.take("y", shape, x.dtype)
    if _is_pointwise(window):
        residual = None if residual is None else _as_matrix(residual)
        products.multiply(_as_matrix(x), weight[:, :, 0, 0], bias, residual, relu, _as_matrix(y))
        return y
    bias = np.empty(0, x.dtype) if bias is None else bias
    residual = np.empty((0, 0), x.dtype) if residual is None else _as_lines(residual)
    filters = len(weight)
    places = _places(window, x.shape[3], 0, window.columns * filters, filters, filters)
    _convolve(y, x, weight, bias, residual, relu, window, places)
    return y


def parameter_gradients(dy, x, weight: Parameter, bias: Parameter | None, window: Window) -> None:
    """Fill ``weight.grad`` and ``bias.grad``; dy is (N, rows, columns, F)."""
    if _is_pointwise(window):
        products.parameter_gradients(_as_matrix(dy), _as_matrix(x), weight, bias)
        return
    from . import conv_kernels as kernels

    filters, patch = len(weight.value), weight.value.size // len(weight.value)
    band = _band(window)
    tasks = len(x) * -(-window.rows // band)
    parts = max(1, min(tasks, PARTS, PARTS_BYTES // (filters * patch * x.itemsize)))
    dweight = scratch.take("dweight", (parts, patch, filters), x.dtype)
    dbias = np.empty((parts, 0 if bias is None else filters))
    lanes = _lanes(x)
    padded = (thread_numbers(), band * window.columns * _ceil(filters, lanes)) if filters % lanes else (0, 0)
    padded = scratch.take("padded", padded, x.dtype)
    kernels.weight_gradient(_as_matrix(dy), x, dweight, dbias, window, band, _seen(x, window, band), padded)
    shape = (*weight.value.shape[2:], weight.value.shape[1], filters)
    weight.grad_array()[...] = dweight.sum(axis=0).reshape(shape).transpose(3, 2, 0, 1)
    if bias is not None:
        bias.grad_array()[...] = dbias.sum(axis=0)


def input_gradient(dy, x: np.ndarray, weight: np.ndarray, window: Window) -> np.ndarray:
    """Gradient by ``x``, of its shape.

    Pixel ``y + stride * t`` is seen by the window's rows ``i`` for which ``y + pad - i`` is a multiple of the stride,
    each row of the output by one of them: together they are a window that moves over dy by steps of one.
    """
    dx = gradients.take(x.shape, x.dtype)
    if _is_pointwise(window):
        products.input_gradient(_as_matrix(dy), weight[:, :, 0, 0], _as_matrix(dx))
        return dx
    _, height, width, channels = x.shape
    none, nothing = np.empty(0, x.dtype), np.empty((0, 0), x.dtype)
    turned = weight.transpose(1, 0, 2, 3)
    for y in range(min(window.stride_y, height)):
        rows, pad_y, count_y = _seeing(y, height, window.height, window.stride_y, window.pad_y)
        for left in range(min(window.stride_x, width)):
            columns, pad_x, count_x = _seeing(left, width, window.width, window.stride_x, window.pad_x)
            taps = turned[:, :, rows][:, :, :, columns]
            over_dy = Window(*taps.shape[2:], 1, 1, pad_y, pad_x, count_y, count_x)
            first, row = (y * width + left) * channels, window.stride_y * width * channels
            places = _places(over_dy, dy.shape[3], first, row, window.stride_x * channels, channels)
            _convolve(dx, dy, taps, none, nothing, False, over_dy, places)
    return dx


def _seeing(first, size, kernel, stride, pad):
    """For pixels ``first + stride * t``: what of the window sees them, backwards; the padding of dy; their number."""
    offset, steps = (first + pad) % stride, (first + pad) // stride
    taps = range(offset, kernel, stride)[::-1]
    return list(taps), len(taps) - 1 - steps, -(-(size - first) // stride)


@lru_cache(1024)
def _places(window, channels, first, row, column, filters):
    """Where to write, given the first place and the steps down and right; ``channels`` are those of what is seen."""
    from .tile import ROWS

    count = _band(window) * window.columns
    down, right = np.divmod(np.minimum(np.arange(count + ROWS - 1), count - 1), window.columns)
    seen = down * window.stride_y * _seen_columns(window) + right * window.stride_x
    return Places(first, row, filters, down * row + right * column, seen * channels)


def _convolve(y, x, weight, bias, residual, relu, window, places):
    from . import conv_kernels as kernels

    band = _band(window)
    packed, seen = _pack(weight), _seen(x, window, band)
    kernels.convolve(_as_lines(y), x, packed, bias, residual, relu, window, places, band, seen)


def _pack(weight):
    """Weights (F, C, height, width) as (blocks, height * width * C, lanes): filters in vectors, filled up with 0."""
    from .tile import VECTORS

    lanes = _lanes(weight) * (VECTORS if len(weight) > _lanes(weight) else 1)
    blocks = -(-len(weight) // lanes)
    patch = weight.size // len(weight)
    packed = scratch.take("weight", (blocks, patch, lanes), weight.dtype)
    flat = weight.transpose(2, 3, 1, 0).reshape(patch, len(weight))
    for block in range(blocks):
        filters = flat[:, block * lanes : (block + 1) * lanes]
        packed[block, :, : filters.shape[1]] = filters
        packed[block, :, filters.shape[1] :] = 0
    return packed


def _seen(x, window, band):
    """Memory for what a band sees, a line for each thread; a tile may read a few numbers more."""
    from .tile import ROWS

    size = ((band - 1) * window.stride_y + window.height) * _seen_columns(window) * x.shape[3]
    return scratch.take("seen", (thread_numbers(), _ceil(size + ROWS, _lanes(x))), x.dtype)


def _seen_columns(window):
    return (window.columns - 1) * window.stride_x + window.width


def _band(window):
    return max(1, min(window.rows, BAND_PLACES // window.columns))


def _lanes(x):
    """Numbers in a vector."""
    from ..backends.cpu.simd import BYTES

    return BYTES // x.itemsize


def _ceil(size, multiple):
    return -(-size // multiple) * multiple


def _as_matrix(images):
    """A row for each pixel."""
    return images.reshape(-1, images.shape[3])


def _as_lines(images):
    """A row for each image."""
    return images.reshape(len(images), prod(images.shape[1:]))


def _is_pointwise(window):
    """Whether each place sees one pixel, its own, so that the images are their own patches."""
    return window[:6] == (1, 1, 1, 1, 0, 0)
