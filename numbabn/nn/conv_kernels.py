"""Convolution and the gradient by its weights, directly from channels-last images.

    y[n, p, q, f] = sum(weight[f, c, i, j] * x[n, p * stride_y + i - pad_y, q * stride_x + j - pad_x, c] for c, i, j)

Parallel over bands: some rows of one image's output. What a band sees is copied, with its padding, to memory of the
thread's own that stays in its first caches, where a patch (what the window sees) is ``height`` runs of ``width * C``
neighbouring numbers, and patches overlap. Tiles (``tile.py``) sum products along these runs for ``ROWS`` output pixels
at once (forward), or along the band's pixels for ``ROWS`` numbers of a run at once (weights). Bands come from the shape
alone, so results do not depend on threads. Moved: x and y once, and again the rows of x that two bands see.

Of BLAS's speed on large products (1536 x 1536), 3x3 convolutions of 32 channels and more reach 80 to 100 %, of 16
channels 60 to 70 %. Tried and lost: patches gathered into matrices for BLAS, a third of its speed (gathering takes as
long as 16 filters do); two sets of sums for tiles of one vector; larger bands; a copy of whole images.
"""

from numba import get_thread_id, prange

from ..backends.cpu.memory import pointer, pointer_to, vector_length
from ..jit import ceil_div, device, kernel
from . import window as windows
from .lines import add, copy, finish
from .tile import ROWS, VECTORS, Walk, add_products, write_products

seen_columns = device(windows.seen_columns)


@kernel
def convolve(x, weight, epilogue, y, window, output, band, seen):
    """Write ``y`` (flat) where ``output`` says; ``weight`` is packed as (blocks, patch, lanes).

    The epilogue may have something only where the output's pixels lie side by side, as forward. ``seen`` has a line for
    each thread, with room for what a band sees.
    """
    bands = ceil_div(window.rows, band)
    image_size, pixels = y.size // max(1, len(x)), window.rows * window.columns
    for task in prange(len(x) * bands):
        image, top = task // bands, task % bands * band
        count, thread = min(band, window.rows - top), get_thread_id()
        _copy_seen(seen[thread], x, image, top, count, window)
        at = image * image_size + output.first + top * output.row
        line, packed = pointer_to(seen, thread * seen.shape[1]), pointer(weight)
        _convolve_band(pointer(y), at, line, packed, weight.shape[2], count, window, output, x.shape[3])
        if epilogue.bias.size or epilogue.residual.size or epilogue.relu:
            for pixel in range(image * pixels + top * window.columns, image * pixels + (top + count) * window.columns):
                finish(y[pixel * output.filters : (pixel + 1) * output.filters], pixel, epilogue)


@kernel
def weight_gradient(dy, x, dweight, dbias, window, band, seen, padded):
    """``dweight[part]``, (patch, filters), and ``dbias[part]``, each summed over a part of all bands.

    ``dy`` is (pixels, filters). ``dbias`` is float64, or empty where there is no bias. ``padded`` has a line for each
    thread, with room for a band of dy in rows of whole vectors; it is empty if dy's rows are such.
    """
    bands = ceil_div(window.rows, band)
    tasks, (parts, patch, filters) = len(x) * bands, dweight.shape
    for part in prange(parts):
        dweight[part] = 0
        dbias[part] = 0
        thread = get_thread_id()
        line, total = pointer_to(seen, thread * seen.shape[1]), pointer_to(dweight, part * patch * filters)
        for task in range(part * tasks // parts, (part + 1) * tasks // parts):
            image, top = task // bands, task % bands * band
            count = min(band, window.rows - top)
            _copy_seen(seen[thread], x, image, top, count, window)
            first, pixels = (image * window.rows + top) * window.columns, count * window.columns
            rows, row = pointer_to(dy, first * filters), filters
            if padded.size:
                row = padded.shape[1] // (band * window.columns)
                _copy_padded(padded[thread], dy, first, pixels, row)
                rows = pointer_to(padded, thread * padded.shape[1])
            _add_weight_products(total, line, rows, row, count, window, x.shape[3], filters)
            if dbias.size:
                for pixel in range(first, first + pixels):
                    add(dbias[part], dy[pixel])


@device
def _copy_seen(line, x, image, top, count, window):
    """Copy what ``count`` rows of the output from ``top`` on see, zeros where that is outside of the image."""
    _, height, width, channels = x.shape
    columns = seen_columns(window)
    low = min(max(0, window.pad_x), columns)
    high = max(low, min(columns, width + window.pad_x))
    pixels = x.reshape(-1)
    for row in range((count - 1) * window.stride_y + window.height):
        target = line[row * columns * channels : (row + 1) * columns * channels]
        y = top * window.stride_y - window.pad_y + row
        if not 0 <= y < height:
            target[:] = 0
            continue
        target[: low * channels] = 0
        first = ((image * height + y) * width + low - window.pad_x) * channels
        copy(target[low * channels : high * channels], pixels[first : first + (high - low) * channels])
        target[high * channels :] = 0


@device
def _copy_padded(line, dy, first, pixels, row):
    """Copy dy at these pixels in rows of ``row`` numbers, with zeros at the end of each."""
    for pixel in range(pixels):
        target = line[pixel * row : (pixel + 1) * row]
        copy(target, dy[first + pixel])
        target[dy.shape[1] :] = 0


@device
def _convolve_band(y, at, line, weight, lanes, count, window, output, channels):
    """Block by block of filters, so that its weights stay in cache, and tile by tile of pixels."""
    run, row = window.width * channels, seen_columns(window) * channels
    walk = Walk(window.height, run, row, 1, run * lanes, lanes)
    for block in range(0, output.filters, lanes):
        columns, weights = min(lanes, output.filters - block), block * window.height * run
        for pixel in range(0, count * window.columns, ROWS):
            rows = count * window.columns - pixel
            to, seen = pointer_to(output.to, pixel), pointer_to(output.seen, pixel)
            write_products(y, at + block, to, rows, columns, line, seen, weight, weights, walk)


@device
def _add_weight_products(total, line, dy, dy_row, count, window, channels, filters):
    """``total[i, k, f] += sum(line[pixel, i, k] * dy[pixel, f])`` over a band's pixels; k counts along runs."""
    run, row, lanes = window.width * channels, seen_columns(window) * channels, VECTORS * vector_length(total)
    step_y, step_x = window.stride_y * row, window.stride_x * channels
    walk = Walk(count, window.columns, step_y, step_x, window.columns * dy_row, dy_row)
    for block in range(0, filters, lanes):
        columns = min(lanes, filters - block)
        for i in range(window.height):
            for k in range(0, run, ROWS):
                at = (i * run + k) * filters + block
                add_products(total, at, filters, run - k, columns, line, i * row + k, dy, block, walk)
