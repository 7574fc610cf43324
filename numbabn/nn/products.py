"""Products of matrices, (rows, features), for linear layers: cuts the work, finds memory, calls the kernels."""

import numpy as np

from .blas import one_thread
from .memory import gradients, scratch
from .module import Parameter

TILE_BYTES = 2**20
"""Most memory for a tile of rows, half of a second-level cache; BLAS leaves room for little more beside it."""

LEAST_ROWS = 256
"""Rows per tile even if they take more: with 128, BLAS spends a third of its time on repacking large weights."""

TASKS = 8
"""Tiles to cut small work into, and most parts that are summed apart in the weight's gradient."""

PARTS_BYTES = 2**26
"""Most memory for those parts."""


def multiply(x: np.ndarray, weight: np.ndarray, bias, residual, relu: bool, y: np.ndarray) -> None:
    """``y = x @ weight.T + bias + residual``, rectified if ``relu``; ``bias`` and ``residual`` may be None."""
    from . import product_kernels as kernels

    bias = np.empty(0, x.dtype) if bias is None else bias
    residual = np.empty((0, 0), x.dtype) if residual is None else residual
    with one_thread:
        kernels.multiply(y, x, np.ascontiguousarray(weight), bias, residual, relu, _tile(x))


def parameter_gradients(dy, x, weight: Parameter, bias: Parameter | None) -> None:
    """Fill ``weight.grad`` and ``bias.grad``."""
    from . import product_kernels as kernels

    shape, tile = (dy.shape[1], x.shape[1]), _tile(x)
    parts = max(1, min(-(-len(dy) // tile), TASKS, PARTS_BYTES // (shape[0] * shape[1] * x.itemsize)))
    dweight = scratch.take("dweight", (parts, *shape), x.dtype)
    term = scratch.take("term", (parts, *shape), x.dtype)
    dbias = np.empty((parts, 0 if bias is None else shape[0]))
    with one_thread:
        kernels.weight_gradient(dy, x, dweight, dbias, tile, term)
    weight.grad_array()[...] = dweight.sum(axis=0).reshape(weight.value.shape)
    if bias is not None:
        bias.grad_array()[...] = dbias.sum(axis=0)


def input_gradient(dy: np.ndarray, weight: np.ndarray, dx: np.ndarray) -> None:
    """``dx = dy @ weight``."""
    from . import product_kernels as kernels

    with one_thread:
        kernels.input_gradient(dy, np.ascontiguousarray(weight), dx, _tile(dx))


def rectifier_gradient(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``dy`` where ReLU's output ``y`` is positive (or NaN), else 0. Not a product: 0 times Inf would be NaN."""
    closed = np.less_equal(y, 0, out=gradients.like(y, bool))
    dx = gradients.like(y)
    np.copyto(dx, dy)
    np.copyto(dx, 0, where=closed)
    return dx


def _tile(x):
    """Rows per tile, from the shape alone."""
    rows, features = x.shape
    tasks = -(-rows // max(LEAST_ROWS, TILE_BYTES // max(1, features * x.itemsize)))
    tasks = max(1, tasks, min(TASKS, rows // 64))
    return max(1, -(-rows // tasks))
