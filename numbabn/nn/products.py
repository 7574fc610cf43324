"""Products of matrices (rows, features), for linear layers and 1x1 convolutions: cuts the work, calls the kernels.

Kernels are imported where they are called, here and in all of ``nn``: importing it does not load Numba.
"""

from typing import NamedTuple

import numpy as np

from .blas import one_thread
from .memory import scratch
from .module import Parameter

TILE_BYTES = 2**20
"""Most memory for a tile of rows, half of a second-level cache; BLAS leaves room for little more beside it."""

LEAST_ROWS = 256
"""Rows per tile even if they take more: with 128, BLAS spends a third of its time on repacking large weights."""

TASKS = 8
"""Tiles to cut small work into."""

PARTS = 8
"""Most parts that are summed apart in the weights' gradient."""

PARTS_BYTES = 2**26
"""Memory of those parts from which on there are fewer of them, if more than one; here it is taken twice."""

MULTIPLY_ADDS = 16
"""As many count as one element of batch norm where ``jit.kernel`` decides about threads. On one thread they take 0.28
to 0.42 ns in convolutions, an element 0.5 to 0.8."""


class Epilogue(NamedTuple):
    """What follows a product while it is in cache; arrays are empty where there is none."""

    bias: np.ndarray
    """(features,)"""
    residual: np.ndarray
    """(rows, features)"""
    relu: bool


def epilogue_of(bias, residual, relu: bool, dtype) -> Epilogue:
    """The same, from arrays that may be None."""
    bias = np.empty(0, dtype) if bias is None else bias
    return Epilogue(bias, np.empty((0, 0), dtype) if residual is None else residual, relu)


def multiply(x: np.ndarray, weight: np.ndarray, epilogue: Epilogue, y: np.ndarray) -> None:
    """``y = relu(x @ weight.T + bias + residual)``, as far as the epilogue has them."""
    from . import product_kernels as kernels

    work = y.size * x.shape[1] // MULTIPLY_ADDS
    with one_thread:
        kernels.multiply(x, np.ascontiguousarray(weight), epilogue, y, _tile(x), work=work)


def parameter_gradients(dy: np.ndarray, x: np.ndarray, weight: Parameter, bias: Parameter | None) -> None:
    """Fill ``weight.grad`` and ``bias.grad``."""
    from . import product_kernels as kernels

    shape, tile = (dy.shape[1], x.shape[1]), _tile(x)
    parts = parts_of(-(-len(dy) // tile), shape[0] * shape[1] * x.itemsize)
    dweight = scratch.take("dweight", (parts, *shape), x.dtype)
    term = scratch.take("term", (parts, *shape), x.dtype)
    dbias = np.empty((parts, 0 if bias is None else shape[0]))
    work = dy.size * x.shape[1] // MULTIPLY_ADDS
    with one_thread:
        kernels.weight_gradient(dy, x, dweight, dbias, term, tile, work=work)
    weight.grad_array()[...] = dweight.sum(axis=0).reshape(weight.value.shape)
    if bias is not None:
        bias.grad_array()[...] = dbias.sum(axis=0)


def input_gradient(dy: np.ndarray, weight: np.ndarray, dx: np.ndarray) -> None:
    """``dx = dy @ weight``."""
    from . import product_kernels as kernels

    work = dx.size * dy.shape[1] // MULTIPLY_ADDS
    with one_thread:
        kernels.input_gradient(dy, np.ascontiguousarray(weight), dx, _tile(dx), work=work)


def parts_of(tasks: int, nbytes: int) -> int:
    """In how many parts to sum so many tasks, with so many bytes for the sum of each."""
    return max(1, min(tasks, PARTS, PARTS_BYTES // nbytes))


def _tile(x):
    """Rows per tile, from the shape alone."""
    rows, features = x.shape
    tasks = -(-rows // max(LEAST_ROWS, TILE_BYTES // (features * x.itemsize)))
    tasks = max(1, tasks, min(TASKS, rows // 64))
    return max(1, -(-rows // tasks))
