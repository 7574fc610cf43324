"""Maximum of windows, on images (outer, H, W, inner): inner is the channels, or 1 where these are part of outer."""

import numpy as np
from numba import prange

from ..jit import device, kernel


@kernel
def max_pool(x, y, chosen, window):
    """``y`` and, in ``chosen``, which element of the window is the maximum, counted row by row.

    The first of equal values wins, and a NaN over all numbers. A task is one row of windows.
    """
    _, height, width, _ = x.shape
    for row in prange(y.shape[0] * window.rows):
        image, line = divmod(np.intp(row), window.rows)
        top = line * window.stride_y - window.pad_y
        for column in range(window.columns):
            left = column * window.stride_x - window.pad_x
            best = y[image, line, column]
            which = chosen[image, line, column]
            fresh = True
            for i in range(max(0, -top), min(window.height, height - top)):
                for j in range(max(0, -left), min(window.width, width - left)):
                    _keep_larger(best, which, x[image, top + i, left + j], i * window.width + j, fresh)
                    fresh = False


@kernel
def max_pool_backward(dy, chosen, dx, window):
    """``dx``: the sum of ``dy`` over the windows that chose a pixel.

    A task is one row of pixels and visits the windows that see it in a fixed order, so that no two tasks add to the
    same element.
    """
    _, height, width, _ = dx.shape
    for row in prange(dx.shape[0] * height):
        image, y = divmod(np.intp(row), height)
        dx[image, y] = 0
        for i in range(window.height):
            line, rest = divmod(y + window.pad_y - i, window.stride_y)
            if rest != 0 or not 0 <= line < window.rows:
                continue
            for column in range(window.columns):
                left = column * window.stride_x - window.pad_x
                gradient = dy[image, line, column]
                which = chosen[image, line, column]
                for j in range(max(0, -left), min(window.width, width - left)):
                    _add_where(dx[image, y, left + j], gradient, which, i * window.width + j)


@device
def _keep_larger(best, which, values, element, fresh):
    for c in range(values.size):
        better = fresh or values[c] > best[c] or values[c] != values[c]
        best[c] = values[c] if better else best[c]
        which[c] = element if better else which[c]


@device
def _add_where(total, values, which, element):
    for c in range(values.size):
        total[c] += values[c] if which[c] == element else 0
