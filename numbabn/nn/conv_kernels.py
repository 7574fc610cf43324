"""Convolution as products of patch matrices, on channels-last images.

A patch is what the window sees at one place: ``height`` runs of ``width * channels`` neighbouring values, one row of
the patch matrix. Only a tile of that matrix exists at a time, in the thread that works on it, and BLAS (``np.dot``, to
be run on one thread) multiplies it while it is in cache. Tiles come from the shape alone, so results do not depend on
threads. Places are counted along the rows of the output, then down, then through the images.
"""

import numpy as np
from numba import get_thread_id, prange

from ..jit import device, kernel


@kernel
def convolve(y, x, weight, bias, residual, relu, window, tile, space):
    """``y = patches(x) @ weight.T + bias + residual``, rectified if ``relu``; y and residual are (places, filters).

    ``bias`` and ``residual`` are empty where there is none; ``space`` has a tile of patches for each thread. What
    follows the product is done while a tile of y is in cache.
    """
    places = y.shape[0]
    for task in prange((places + tile - 1) // tile):
        start = task * tile
        stop = min(start + tile, places)
        patches = _patches(x, window, start, stop, space[get_thread_id()])
        result = y[start:stop]
        np.dot(patches, weight.T, result)
        for row in range(stop - start):
            line = result[row]
            if bias.size:
                _add(line, bias)
            if residual.size:
                _add(line, residual[start + row])
            if relu:
                _rectify(line)


@kernel
def weight_gradient(dy, x, dweight, dbias, window, tile, space, terms):
    """``dweight[part] = dy.T @ patches(x)`` and ``dbias[part] = sum(dy)`` over the tiles of each part.

    ``dbias`` is float64, or empty where there is no bias; ``terms`` is like ``dweight``, for sums under way.
    """
    places = dy.shape[0]
    tiles = (places + tile - 1) // tile
    parts = dweight.shape[0]
    for part in prange(parts):
        total = dweight[part]
        term = terms[part]
        first = part * tiles // parts
        last = (part + 1) * tiles // parts
        dbias[part] = 0
        if first == last:
            total[:] = 0
        for t in range(first, last):
            start = t * tile
            stop = min(start + tile, places)
            patches = _patches(x, window, start, stop, space[get_thread_id()])
            np.dot(dy[start:stop].T, patches, total if t == first else term)
            if t > first:
                _add(total.reshape(-1), term.reshape(-1))
            if dbias.size:
                for row in range(start, stop):
                    _add(dbias[part], dy[row])


@kernel
def input_gradient(dy, dx, weight, window, tile, space):
    """``dx``: the rows of ``dy @ weight`` added up where their patches came from. A task owns whole images."""
    images = dx.shape[0]
    places = window.rows * window.columns
    group = max(1, tile // places)
    for task in prange((images + group - 1) // group):
        image = task * group
        end = min(image + group, images)
        if _is_pointwise(window):
            pixels = _pixels(dx)[image * places : end * places]
            np.dot(dy[image * places : end * places], weight, pixels)
            continue
        dx[image:end] = 0
        for start in range(image * places, end * places, tile):
            stop = min(start + tile, end * places)
            patches = space[get_thread_id()][: stop - start]
            np.dot(dy[start:stop], weight, patches)
            _scatter_add(patches, dx, window, start)


@device
def _is_pointwise(window):
    """Whether each place sees one pixel, its own, so that the images are their own patch matrix."""
    one_pixel = window.height == 1 and window.width == 1 and window.pad_y == 0 and window.pad_x == 0
    return one_pixel and window.stride_y == 1 and window.stride_x == 1


@device
def _pixels(x):
    return x.reshape(-1, x.shape[3])


@device
def _patches(x, window, start, stop, space):
    """The patches of places ``start`` to ``stop``, in ``space`` unless they are pixels that lie there already."""
    if _is_pointwise(window):
        return _pixels(x)[start:stop]
    patches = space[: stop - start]
    _gather(patches, x, window, start)
    return patches


@device
def _corner(place, window):
    """Image, row and column of the window's first pixel; row and column are negative in the padding."""
    image, place = divmod(place, window.rows * window.columns)
    y, x = divmod(place, window.columns)
    return image, y * window.stride_y - window.pad_y, x * window.stride_x - window.pad_x


@device
def _inside(left, window, width):
    """First column of the window inside the image, and the one behind the last."""
    low = min(max(0, -left), window.width)
    return low, max(low, min(window.width, width - left))


# Runs are sliced before they are walked: an index of a loop from 0 cannot be negative, so that Numba leaves out its
# handling of negative ones, and LLVM vectorises. That makes copying 4 times and adding 6 times as fast.


@device
def _copy(target, source):
    for k in range(source.size):
        target[k] = source[k]


@device
def _add(target, source):
    for k in range(source.size):
        target[k] += source[k]


@device
def _rectify(values):
    for k in range(values.size):
        values[k] = 0 if values[k] < 0 else values[k]


@device
def _gather(patches, x, window, start):
    """Write the patches from ``start`` on; what lies outside the image is zero."""
    _, height, width, channels = x.shape
    values = x.reshape(-1)
    run = window.width * channels
    for row in range(patches.shape[0]):
        image, top, left = _corner(start + row, window)
        low, high = _inside(left, window, width)
        for i in range(window.height):
            line = patches[row, i * run : (i + 1) * run]
            if not 0 <= top + i < height:
                line[:] = 0
                continue
            first = ((image * height + top + i) * width + left) * channels
            line[: low * channels] = 0
            _copy(line[low * channels :], values[first + low * channels : first + high * channels])
            line[high * channels :] = 0


@device
def _scatter_add(patches, x, window, start):
    """Add the rows of ``patches`` to the pixels that ``_gather`` takes them from."""
    _, height, width, channels = x.shape
    values = x.reshape(-1)
    run = window.width * channels
    for row in range(patches.shape[0]):
        image, top, left = _corner(start + row, window)
        low, high = _inside(left, window, width)
        for i in range(max(0, -top), min(window.height, height - top)):
            first = ((image * height + top + i) * width + left) * channels
            line = patches[row, i * run : (i + 1) * run]
            _add(values[first + low * channels : first + high * channels], line[low * channels : high * channels])
