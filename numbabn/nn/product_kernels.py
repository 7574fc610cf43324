"""Products of matrices with what goes along, for linear layers and convolutions with a window of one pixel.

BLAS (``np.dot``, to be run on one thread) multiplies a tile of rows in the thread that works on it; what follows is
done while the tile is in cache. Tiles come from the shape alone, so results do not depend on threads.
"""

import numpy as np
from numba import prange

from ..jit import ceil_div, kernel
from .lines import add, rectify


@kernel
def multiply(y, x, weight, bias, residual, relu, tile):
    """``y = x @ weight.T + bias + residual``, rectified if ``relu``; ``bias`` and ``residual`` may be empty: none."""
    for task in prange(ceil_div(len(y), tile)):
        start, stop = task * tile, min((task + 1) * tile, len(y))
        result = y[start:stop]
        np.dot(x[start:stop], weight.T, result)
        for row in range(stop - start):
            line = result[row]
            if bias.size:
                add(line, bias)
            if residual.size:
                add(line, residual[start + row])
            if relu:
                rectify(line)


@kernel
def weight_gradient(dy, x, dweight, dbias, tile, terms):
    """``dweight[part] = dy.T @ x`` and ``dbias[part] = sum(dy)`` over the tiles of each part.

    ``dbias`` is float64, or empty where there is no bias; ``terms`` is like ``dweight``, for sums under way.
    """
    tiles, parts = ceil_div(len(dy), tile), len(dweight)
    for part in prange(parts):
        total, term = dweight[part], terms[part]
        first, last = part * tiles // parts, (part + 1) * tiles // parts
        dbias[part] = 0
        if first == last:
            total[:] = 0
        for t in range(first, last):
            start, stop = t * tile, min((t + 1) * tile, len(dy))
            np.dot(dy[start:stop].T, x[start:stop], total if t == first else term)
            if t > first:
                add(total.reshape(-1), term.reshape(-1))
            if dbias.size:
                for row in range(start, stop):
                    add(dbias[part], dy[row])


@kernel
def input_gradient(dy, weight, dx, tile):
    """``dx = dy @ weight``."""
    for task in prange(ceil_div(len(dx), tile)):
        start, stop = task * tile, min((task + 1) * tile, len(dx))
        np.dot(dy[start:stop], weight, dx[start:stop])
