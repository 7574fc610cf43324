"""Products of matrices (rows, features), for linear layers and convolutions with a window of one pixel.

BLAS (``np.dot``, to be run on one thread) multiplies a tile of rows in the thread that works on it, and what follows is
done while the tile is in cache. Parallel over tiles; they come from the shape alone, so results do not depend on
threads. Tried and lost: BLAS with threads of its own beside Numba's, see ``blas.py``; tiles of 128 rows, see
``products.LEAST_ROWS``.
"""

import numpy as np
from numba import prange

from ..jit import ceil_div, kernel
from .lines import add, finish


@kernel
def multiply(x, weight, epilogue, y, tile):
    """``y = relu(x @ weight.T + bias + residual)``, as far as the epilogue has them."""
    for task in prange(ceil_div(len(y), tile)):
        start, stop = task * tile, min((task + 1) * tile, len(y))
        np.dot(x[start:stop], weight.T, y[start:stop])
        for row in range(start, stop):
            finish(y[row], row, epilogue)


@kernel
def weight_gradient(dy, x, dweight, dbias, term, tile):
    """``dweight[part] = dy.T @ x`` and ``dbias[part] = sum(dy)`` over the tiles of each part.

    ``dbias`` is float64, or empty where there is no bias; ``term`` is memory like ``dweight``, for the product of a
    tile.
    """
    tiles, parts = ceil_div(len(dy), tile), len(dweight)
    for part in prange(parts):
        dweight[part] = 0
        dbias[part] = 0
        for t in range(part * tiles // parts, (part + 1) * tiles // parts):
            start, stop = t * tile, min((t + 1) * tile, len(dy))
            np.dot(dy[start:stop].T, x[start:stop], term[part])
            add(dweight[part].reshape(-1), term[part].reshape(-1))
            if dbias.size:
                for row in range(start, stop):
                    add(dbias[part], dy[row])


@kernel
def input_gradient(dy, weight, dx, tile):
    """``dx = dy @ weight``."""
    for task in prange(ceil_div(len(dx), tile)):
        start, stop = task * tile, min((task + 1) * tile, len(dx))
        np.dot(dy[start:stop], weight, dx[start:stop])
