"""Convolution and its gradients on contiguous channels-last images: cuts the work, finds memory, calls the kernels.

Images are (N, H, W, C), weights (F, C, height, width). The gradient by the input is itself a convolution, of dy with
the weights turned around; with a stride, one for each of the pixels that a step covers.
"""

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from . import products
from .memory import Buffers, gradients, scratch
from .module import Parameter
from .products import MULTIPLY_ADDS, epilogue_of
from .window import Window, seen_columns

BAND_PIXELS = 192
"""Output pixels per band, but at least one row. Measured with 16 channels: 384 make the weights' gradient a fifth
slower, 64 a tenth; nothing else changes from 64 to 1,024."""


class Output(NamedTuple):
    """Where the pixels of a convolution's output are, in elements of an image in memory, and where what they see is."""

    filters: int
    """Numbers of a pixel, side by side."""
    first: int
    """The first pixel."""
    row: int
    """From one row of pixels to the next."""
    to: np.ndarray
    """Each pixel of a band, counted from the band's first; the last one again, as often as fills the last tile."""
    seen: np.ndarray
    """What each of these sees, in the band's copy."""


def convolve(x: np.ndarray, weight: np.ndarray, bias, residual, relu: bool, window: Window, buffers: Buffers):
    """``relu(weight * x + bias + residual)``, shape (N, rows, columns, F), as far as there are any.

    ``bias`` is a vector or None, ``residual`` contiguous and of the result's shape, or None.
    """
    filters = len(weight)
    y = buffers.take("y", (len(x), window.rows, window.columns, filters), x.dtype, x, residual)
    epilogue = epilogue_of(bias, None if residual is None else _as_matrix(residual), relu, x.dtype)
    if _is_pointwise(window):
        products.multiply(_as_matrix(x), weight[:, :, 0, 0], epilogue, _as_matrix(y))
    else:
        output = _output(window, x.shape[3], filters, 0, window.columns * filters, filters)
        _convolve(x, weight, epilogue, y, window, output)
    return y


def parameter_gradients(dy: np.ndarray, x: np.ndarray, weight: Parameter, bias: Parameter | None, window: Window):
    """Fill ``weight.grad`` and ``bias.grad``; dy is (N, rows, columns, F)."""
    if _is_pointwise(window):
        products.parameter_gradients(_as_matrix(dy), _as_matrix(x), weight, bias)
        return
    from . import conv_kernels as kernels

    filters, patch = len(weight.value), weight.value.size // len(weight.value)
    band, lanes = _band(window), _lanes(x)
    parts = products.parts_of(len(x) * -(-window.rows // band), weight.value.nbytes)
    dweight = scratch.take("dweight", (parts, patch, filters), x.dtype)
    dbias = np.empty((parts, 0 if bias is None else filters))
    row = _round_up(filters, lanes) if filters % lanes else 0
    padded = scratch.take("padded", (_most_threads(), band * window.columns * row), x.dtype)
    work = dy.size * patch // MULTIPLY_ADDS
    kernels.weight_gradient(_as_matrix(dy), x, dweight, dbias, window, band, _seen(x, window), padded, work=work)
    shape = (*weight.value.shape[2:], weight.value.shape[1], filters)
    weight.grad_array()[...] = dweight.sum(axis=0).reshape(shape).transpose(3, 2, 0, 1)
    if bias is not None:
        bias.grad_array()[...] = dbias.sum(axis=0)


def input_gradient(dy: np.ndarray, x: np.ndarray, weight: np.ndarray, window: Window) -> np.ndarray:
    """Gradient by ``x``, of its shape: ``dx[y] = sum(weight[i] * dy[(y + pad - i) / stride])``, in both directions.

    The sum is over the rows i of the window for which that is whole. They are the same for all y of one remainder
    modulo the stride, so that each remainder is a convolution of dy with a stride of 1. Its padding may be negative,
    and its window empty: such pixels get 0.
    """
    dx = gradients.take(x.shape, x.dtype)
    if _is_pointwise(window):
        products.input_gradient(_as_matrix(dy), weight[:, :, 0, 0], _as_matrix(dx))
        return dx
    _, height, width, channels = x.shape
    epilogue, turned = epilogue_of(None, None, False, x.dtype), weight.transpose(1, 0, 2, 3)
    for y in range(min(window.stride_y, height)):
        rows, pad_y, count_y = _taps(y, height, window.height, window.stride_y, window.pad_y)
        for left in range(min(window.stride_x, width)):
            columns, pad_x, count_x = _taps(left, width, window.width, window.stride_x, window.pad_x)
            over_dy = Window(len(rows), len(columns), 1, 1, pad_y, pad_x, count_y, count_x)
            first, row = (y * width + left) * channels, window.stride_y * width * channels
            output = _output(over_dy, dy.shape[3], channels, first, row, window.stride_x * channels)
            _convolve(dy, turned[:, :, rows][:, :, :, columns], epilogue, dx, over_dy, output)
    return dx


def _taps(first, size, kernel, stride, pad):
    """For pixels ``first + stride * t``: the window's rows that see them, from the last; the padding of dy; their
    number.
    """
    offset, steps = (first + pad) % stride, (first + pad) // stride
    taps = list(range(offset, kernel, stride))[::-1]
    return taps, len(taps) - 1 - steps, -(-(size - first) // stride)


@lru_cache(1024)
def _output(window, channels, filters, first, row, column):
    """The output, given its first pixel and the steps down and right; ``channels`` are those of what is seen."""
    from .tile import ROWS

    count = _band(window) * window.columns
    down, right = np.divmod(np.minimum(np.arange(count + ROWS - 1), count - 1), window.columns)
    seen = down * window.stride_y * seen_columns(window) + right * window.stride_x
    return Output(filters, first, row, down * row + right * column, seen * channels)


def _convolve(x, weight, epilogue, y, window, output):
    from . import conv_kernels as kernels

    pixels = len(x) * window.rows * window.columns
    work = pixels * weight.size // MULTIPLY_ADDS
    flat = y.reshape(y.size)
    kernels.convolve(x, _pack(weight), epilogue, flat, window, output, _band(window), _seen(x, window), work=work)


def _pack(weight):
    """Weights (F, C, height, width) as (blocks, height * width * C, lanes): filters in vectors, filled up with 0."""
    from .tile import VECTORS

    lanes = _lanes(weight) * (VECTORS if len(weight) > _lanes(weight) else 1)
    blocks = -(-len(weight) // lanes)
    patch = prod(weight.shape[1:])
    packed = scratch.take("weight", (blocks, patch, lanes), weight.dtype)
    flat = weight.transpose(2, 3, 1, 0).reshape(patch, len(weight))
    for block in range(blocks):
        filters = flat[:, block * lanes : (block + 1) * lanes]
        packed[block, :, : filters.shape[1]] = filters
        packed[block, :, filters.shape[1] :] = 0
    return packed


def _seen(x, window):
    """Memory for what a band sees, a line for each thread; a tile may read a few numbers more."""
    from .tile import ROWS

    size = ((_band(window) - 1) * window.stride_y + window.height) * seen_columns(window) * x.shape[3]
    return scratch.take("seen", (_most_threads(), _round_up(size + ROWS, _lanes(x))), x.dtype)


def _band(window):
    """Rows of the output per band."""
    return max(1, min(window.rows, BAND_PIXELS // window.columns))


def _lanes(x):
    """Numbers in a vector."""
    from ..backends.cpu.simd import BYTES

    return BYTES // x.itemsize


def _most_threads():
    from ..jit import most_threads

    return most_threads()


def _round_up(size, multiple):
    return -(-size // multiple) * multiple


def _as_matrix(images):
    """A row for each pixel."""
    return images.reshape(prod(images.shape[:3]), images.shape[3])


def _is_pointwise(window):
    """Whether each output pixel sees one pixel, its own, so that the images are their own patches."""
    return window[:6] == (1, 1, 1, 1, 0, 0)
