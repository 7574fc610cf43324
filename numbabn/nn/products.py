"""Convolution and its gradients on contiguous channels-last images: cuts the work, finds memory, calls the kernels.

Images are (N, H, W, C), outputs (places, filters), weights (filters, patch size). A linear layer is the case of
one-pixel images.
"""

import threading

import numpy as np

from .blas import one_thread
from .memory import Buffers
from .module import Parameter
from .window import Window

TILE_BYTES = 2**20
"""Most memory for a tile of patches, half of a second-level cache; BLAS leaves room for little more beside it."""

LEAST_PLACES = 256
"""Places per tile even if they take more: with 128, BLAS spends a third of its time on repacking large weights."""

TASKS = 8
"""Tiles to cut small work into, and most parts that are summed apart in the weight's gradient."""

PARTS_BYTES = 2**26
"""Most memory for those parts."""


class _Scratch(threading.local):
    """Memory that is free again after each call, of which every Python thread has its own for all its layers."""

    def __init__(self):
        self._buffers = Buffers()

    def take(self, name, shape, dtype):
        return self._buffers.take(f"{name} {dtype}", shape, dtype)


_scratch = _Scratch()


def convolve(x: np.ndarray, weight: np.ndarray, bias, residual, relu: bool, window: Window, buffers: Buffers):
    """``patches(x) @ weight.T + bias + residual``, shape (places, filters), rectified if ``relu``.

    ``bias`` is a vector or None, ``residual`` contiguous and of the result's size, or None.
    """
    from . import conv_kernels as kernels

    y = buffers.take("y", (_places(x, window), len(weight)), x.dtype)
    bias = np.empty(0, x.dtype) if bias is None else bias
    residual = np.empty((0, 0), x.dtype) if residual is None else residual.reshape(y.shape)
    tile, space = _tiles(x, weight, window)
    with one_thread:
        kernels.convolve(y, x, weight, bias, residual, relu, window, tile, space)
    return y


def parameter_gradients(dy, x, weight: Parameter, bias: Parameter | None, window: Window) -> None:
    """Fill ``weight.grad`` and ``bias.grad``; dy is (places, filters)."""
    from . import conv_kernels as kernels

    shape = as_matrix(weight.value).shape
    tile, space = _tiles(x, as_matrix(weight.value), window)
    parts = min(-(-len(dy) // tile), TASKS, PARTS_BYTES // (shape[0] * shape[1] * x.itemsize))
    parts = max(1, parts)
    dweight = _scratch.take("dweight", (parts, *shape), x.dtype)
    term = _scratch.take("term", (parts, *shape), x.dtype)
    dbias = np.empty((parts, 0 if bias is None else shape[0]))
    with one_thread:
        kernels.weight_gradient(dy, x, dweight, dbias, window, tile, space, term)
    weight.grad_array()[...] = from_matrix(dweight.sum(axis=0), weight.value.shape)
    if bias is not None:
        bias.grad_array()[...] = dbias.sum(axis=0)


def input_gradient(dy, x: np.ndarray, weight: np.ndarray, window: Window, buffers: Buffers) -> np.ndarray:
    """Gradient by ``x``, of its shape."""
    from . import conv_kernels as kernels

    dx = buffers.take("dx", x.shape, x.dtype)
    tile, space = _tiles(x, weight, window)
    with one_thread:
        kernels.input_gradient(dy, dx, weight, window, tile, space)
    return dx


def rectifier_gradient(dy: np.ndarray, y: np.ndarray, buffers: Buffers, name: str = "dx") -> np.ndarray:
    """``dy`` where ReLU's output ``y`` is positive (or NaN), else 0. Not a product: 0 times Inf would be NaN."""
    closed = np.less_equal(y, 0, out=buffers.like("closed", y, bool))
    dx = buffers.like(name, y)
    np.copyto(dx, dy)
    np.copyto(dx, 0, where=closed)
    return dx


def as_matrix(weight: np.ndarray) -> np.ndarray:
    """(F, C, kh, kw) as (F, kh * kw * C), a view where it lies so in memory; (F, C) as it is."""
    return np.ascontiguousarray(np.moveaxis(weight, 1, -1)).reshape(len(weight), -1)


def from_matrix(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of :func:`as_matrix`, a view."""
    return np.moveaxis(matrix.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def _places(x, window):
    return len(x) * window.rows * window.columns


def _tiles(x, weight, window):
    """Places per tile, and memory for the patches of one tile in each thread. Tiles depend on the shape alone."""
    places, patch = _places(x, window), weight.shape[1]
    tasks = -(-places // max(LEAST_PLACES, TILE_BYTES // (patch * x.itemsize)))
    tasks = max(1, tasks, min(TASKS, places // 64))
    tile = max(1, -(-places // tasks))
    return tile, _scratch.take("patches", (_most_threads(), tile, patch), x.dtype)


def _most_threads():
    """Upper bound of thread numbers. Asking starts the threads: kernels loaded from the cache crash otherwise."""
    import numba

    return max(numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
