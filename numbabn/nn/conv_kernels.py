"""Convolution and the gradient by its weights, directly from channels-last images.

The work is cut into bands: some rows of an image's output. What a band sees is copied, with its padding, to memory of
the thread's own that stays in its first caches; there the patches of neighbouring places overlap, and each is
``height`` runs of ``width * channels`` neighbouring numbers. A tile (``tile.py``) then sums products along these runs
for ``ROWS`` places at once (forward), or along the band's places for ``ROWS`` numbers of the run at once (weights).
Bands come from the shape alone, so results do not depend on threads.

Of the peak of BLAS on large products, this reaches 65 % with 16 filters and 80 to 100 % with 32 and more. BLAS on
matrices of patches, as it was here before, reached a third: gathering them costs as much as 16 filters do.
"""

from numba import get_thread_id, prange

from ..backends.cpu.memory import vector_length
from ..jit import ceil_div, device, kernel
from .lines import add, copy, rectify
from .tile import ROWS, VECTORS, Walk, add_products, write_products


@kernel
def convolve(y, x, weight, bias, residual, relu, window, places, band, space):
    """``y = weight * x + bias + residual``, rectified if ``relu``, at the ``places`` of y that the window takes.

    ``y`` is (N, numbers of an image); ``weight`` is packed, see ``pack``; ``bias`` and ``residual`` are empty where
    there is none; ``space`` has a line for each thread, with room for what a band sees.
    """
    bands = ceil_div(window.rows, band)
    for task in prange(len(x) * bands):
        image, top = task // bands, task % bands * band
        count = min(band, window.rows - top)
        seen = space[get_thread_id()]
        _copy_seen(seen, x, image, top, count, window)
        _convolve_band(y[image], seen, weight, top, count, window, places, x.shape[3])
        if bias.size or residual.size or relu:
            filters = places.column
            for place in range(top * window.columns, (top + count) * window.columns):
                line = y[image, place * filters : (place + 1) * filters]
                if bias.size:
                    add(line, bias)
                if residual.size:
                    add(line, residual[image, place * filters : (place + 1) * filters])
                if relu:
                    rectify(line)


@kernel
def weight_gradient(dy, x, dweight, dbias, window, band, space, padded):
    """``dweight[part]``, (patch, filters), and ``dbias[part]``, each summed over a part of all bands.

    ``dbias`` is float64, or empty where there is no bias. ``padded`` has a line for each thread, with room for a band
    of dy in rows of whole vectors; it is empty if dy's rows are such.
    """
    bands = ceil_div(window.rows, band)
    tasks, parts, filters = len(x) * bands, len(dweight), dweight.shape[2]
    for part in prange(parts):
        total, seen = dweight[part].reshape(-1), space[get_thread_id()]
        total[:] = 0
        dbias[part] = 0
        for task in range(part * tasks // parts, (part + 1) * tasks // parts):
            image, top = task // bands, task % bands * band
            count = min(band, window.rows - top)
            _copy_seen(seen, x, image, top, count, window)
            first, places = (image * window.rows + top) * window.columns, count * window.columns
            lines, row = dy.reshape(-1)[first * filters : (first + places) * filters], filters
            if dbias.size:
                for place in range(places):
                    add(dbias[part], lines[place * filters : (place + 1) * filters])
            if padded.size:
                row = padded.shape[1] // (band * window.columns)
                lines = _copy_padded(padded[get_thread_id()], lines, places, filters, row)
            _add_weight_products(total, seen, lines, row, count, window, x.shape[3], filters)


@device
def _seen_columns(window):
    return (window.columns - 1) * window.stride_x + window.width


@device
def _copy_seen(seen, x, image, top, count, window):
    """Copy what ``count`` rows of the output from ``top`` on see, zeros where that is outside of the image."""
    _, height, width, channels = x.shape
    columns = _seen_columns(window)
    low = min(max(0, window.pad_x), columns)
    high = max(low, min(columns, width + window.pad_x))
    pixels = x.reshape(-1)
    for row in range((count - 1) * window.stride_y + window.height):
        line = seen[row * columns * channels : (row + 1) * columns * channels]
        y = top * window.stride_y - window.pad_y + row
        if not 0 <= y < height:
            line[:] = 0
            continue
        line[: low * channels] = 0
        first = ((image * height + y) * width + low - window.pad_x) * channels
        copy(line[low * channels : high * channels], pixels[first : first + (high - low) * channels])
        line[high * channels :] = 0


@device
def _copy_padded(target, lines, places, filters, row):
    """Copy lines of ``filters`` numbers to such of ``row`` numbers, the others 0."""
    for place in range(places):
        line = target[place * row : (place + 1) * row]
        copy(line[:filters], lines[place * filters : (place + 1) * filters])
        line[filters:] = 0
    return target[: places * row]


@device
def _convolve_band(y, seen, weight, top, count, window, places, channels):
    """One block of filters after another, so that its weights stay in cache; in it, one tile of places after another.

    Each place of a tile has its row, ``stride_x`` pixels behind the one before.
    """
    blocks, patch, lanes = weight.shape
    step, run, line = window.stride_x * channels, window.width * channels, _seen_columns(window) * channels
    walk = Walk(window.height, run, line, step, run * lanes, lanes)
    weights = weight.reshape(-1)
    for block in range(blocks):
        columns = min(lanes, places.filters - block * lanes)
        for row in range(count):
            target = places.first + (top + row) * places.row + block * lanes
            source = row * window.stride_y * line
            for column in range(0, window.columns, ROWS):
                at, a_at, rows = target + column * places.column, source + column * step, window.columns - column
                write_products(y, at, places.column, rows, columns, seen, a_at, weights, block * patch * lanes, walk)


@device
def _add_weight_products(total, seen, lines, row, count, window, channels, filters):
    """Add what a band of dy's ``lines`` gives: for each run of the patch, tiles of its numbers by blocks of filters."""
    run, line, lanes = window.width * channels, _seen_columns(window) * channels, VECTORS * vector_length(total)
    walk = Walk(count, window.columns, window.stride_y * line, window.stride_x * channels, window.columns * row, row)
    for block in range(0, filters, lanes):
        for i in range(window.height):
            for k in range(0, run, ROWS):
                at = (i * run + k) * filters + block
                columns = min(lanes, filters - block)
                add_products(total, at, filters, run - k, columns, seen, i * line + k, lines, block, walk)
