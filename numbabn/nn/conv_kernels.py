"""Convolution and the gradient by its weights, directly from channels-last images.

The work is cut into bands: some rows of an image's output. What a band sees is copied, with its padding, to memory of
the thread's own that stays in its first caches; there the patches of neighbouring places overlap, and each is
``height`` runs of ``width * channels`` neighbouring numbers. A tile (``tile.py``) then sums products along these runs
for ``ROWS`` places at once (forward), or along the band's places for ``ROWS`` numbers of the run at once (weights).
Bands come from the shape alone, so results do not depend on threads.

Of BLAS's speed on large products (1536 x 1536), 3x3 convolutions of 32 channels and more reach 80 to 100 %, of 16
channels 60 to 70 %. Before, BLAS multiplied gathered matrices of patches, which reached a third: gathering takes as
long as 16 filters do. Tried in vain: two sets of sums for tiles of one vector, larger bands, a copy of whole images.
"""

from numba import get_thread_id, prange

from ..backends.cpu.memory import pointer, pointer_to, vector_length
from ..jit import ceil_div, device, kernel
from .lines import add, copy, rectify
from .tile import ROWS, VECTORS, Walk, add_products, write_products


@kernel
def convolve(y, x, weight, bias, residual, relu, window, places, band, space):
    """``y = weight * x + bias + residual``, rectified if ``relu``, at the ``places`` of y that the window takes.

    ``y`` is (N, numbers of an image); ``weight`` is packed, see ``convolution``; ``bias`` and ``residual`` are empty
    where there is none; ``space`` has a line for each thread, with room for what a band sees.
    """
    bands = ceil_div(window.rows, band)
    for task in prange(len(x) * bands):
        image, top = task // bands, task % bands * band
        count = min(band, window.rows - top)
        _copy_seen(space[get_thread_id()], x, image, top, count, window)
        at = image * y.shape[1] + places.first + top * places.row
        seen, packed = pointer_to(space, get_thread_id() * space.shape[1]), pointer(weight)
        _convolve_band(pointer(y), at, seen, packed, weight.shape[2], count, window, places, x.shape[3])
        if bias.size or residual.size or relu:
            filters = places.filters
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
    tasks, (parts, patch, filters) = len(x) * bands, dweight.shape
    for part in prange(parts):
        dweight[part] = 0
        dbias[part] = 0
        seen, total = pointer_to(space, get_thread_id() * space.shape[1]), pointer_to(dweight, part * patch * filters)
        for task in range(part * tasks // parts, (part + 1) * tasks // parts):
            image, top = task // bands, task % bands * band
            count = min(band, window.rows - top)
            _copy_seen(space[get_thread_id()], x, image, top, count, window)
            first, places = (image * window.rows + top) * window.columns, count * window.columns
            lines, row = pointer_to(dy, first * filters), filters
            if padded.size:
                row = padded.shape[1] // (band * window.columns)
                _copy_padded(padded[get_thread_id()], dy, first, places, row)
                lines = pointer_to(padded, get_thread_id() * padded.shape[1])
            _add_weight_products(total, seen, lines, row, count, window, x.shape[3], filters)
            if dbias.size:
                for place in range(first, first + places):
                    add(dbias[part], dy[place])


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
def _copy_padded(target, dy, first, places, row):
    """Copy dy at these places in rows of ``row`` numbers, those behind its own 0."""
    for place in range(places):
        line = target[place * row : (place + 1) * row]
        copy(line, dy[first + place])
        line[dy.shape[1] :] = 0


@device
def _convolve_band(y, at, seen, weight, lanes, count, window, places, channels):
    """Block by block of filters, so that its weights stay in cache, and tile by tile of places."""
    run, line = window.width * channels, _seen_columns(window) * channels
    walk = Walk(window.height, run, line, 1, run * lanes, lanes)
    for block in range(0, places.filters, lanes):
        columns, weights = min(lanes, places.filters - block), block * window.height * run
        for place in range(0, count * window.columns, ROWS):
            rows = count * window.columns - place
            to, from_ = pointer_to(places.to, place), pointer_to(places.from_, place)
            write_products(y, at + block, to, rows, columns, seen, from_, weight, weights, walk)


@device
def _add_weight_products(total, seen, lines, row, count, window, channels, filters):
    """Add what a band of dy's ``lines`` gives: for each run of the patch, tiles of its numbers by blocks of filters."""
    run, line, lanes = window.width * channels, _seen_columns(window) * channels, VECTORS * vector_length(total)
    walk = Walk(count, window.columns, window.stride_y * line, window.stride_x * channels, window.columns * row, row)
    for block in range(0, filters, lanes):
        columns = min(lanes, filters - block)
        for i in range(window.height):
            for k in range(0, run, ROWS):
                at = (i * run + k) * filters + block
                add_products(total, at, filters, run - k, columns, seen, i * line + k, lines, block, walk)
