"""Channels that lie side by side: ``(outer, channels)`` (NHWC, NC). Channels are counted in vectors here.

A block takes a part of the rows of a tile of channels: some of its threads side by side read a row, the others the next
ones. The second walk takes the parts in the opposite order, so as to meet in the L2 cache what the first has read last.
"""

from ..flags import FROM_Y, FROZEN
from ..host import BETA, GAMMA, INVSTD, MEAN, REST
from .epilogue import add_and_clip, let_through
from .moments import add_block, merge_block
from .policy import THREADS
from .simd import EVERYWHERE, cast, fma, gather, lanes, load, scatter, shared, splat, store
from .toolkit import cuda, device, kernel

KINDS = {
    "sum_parts": "dnnliii",
    "normalize": "dddnliiii",
    "sum_gradient_parts": "dddnnliiii",
    "write_gradient": "dddddnnliiii",
}
"""Of the kernels' arguments (see ``launch.launcher``)."""


@device
def part_at(block, outer, channels, width, count):
    """This thread's vector of channels, its first row, the row behind its last, and the part."""
    thread, tiles = cuda.threadIdx.x, (channels + width - 1) // width
    tile, part = block % tiles, block // tiles
    first = outer * part // count + thread // width
    stop = outer * (part + 1) // count
    vector = tile * width + thread % width
    return vector, first, stop if vector < channels else first, part


@device
def affine(x, table, channels, vector):
    """``m, p, r, h`` of ``d = x - m``, ``y = d * p + r`` and, but for what the mean lost, ``xhat = d * h``."""
    row, start = channels * lanes(x), min(vector, channels - 1) * lanes(x)
    m, h = gather(x, table, MEAN * row + start), gather(x, table, INVSTD * row + start)
    p = gather(x, table, GAMMA * row + start) * h
    return m, p, gather(x, table, BETA * row + start) - gather(x, table, REST * row + start) * p, h


@kernel
def sum_parts(x, parts, table, outer, channels, width, count):
    """Moments of each part, means counted from the channel's first value, which is left where the mean will stand.

    e bytes per element of e bytes.
    """
    vector, row, stop, part = part_at(cuda.blockIdx.x, outer, channels, width, count)
    thread, size = cuda.threadIdx.x, lanes(x)
    origin = load(x, min(vector, channels - 1))
    centre = load(x, row * channels + vector) if row < stop else origin
    n = max(0, (stop - row + THREADS // width - 1) // (THREADS // width))
    s, q = splat(x, 0), splat(x, 0)
    for k in range(row, stop, THREADS // width):
        d = load(x, k * channels + vector) - centre
        s = s + d
        q = fma(d, d, q)
    share = splat(x, cast(table, 1) / cast(table, max(n, 1)))
    numbers = shared(x, 3)
    scatter(numbers, thread, THREADS, splat(x, cast(table, n)))
    scatter(numbers, THREADS * size + thread, THREADS, centre - origin + s * share)
    scatter(numbers, 2 * THREADS * size + thread, THREADS, q - s * (s * share))
    merge_block(numbers, size, width)
    if thread < width and vector < channels:
        for lane in range(size):
            channel = vector * size + lane
            for k in range(3):
                parts[(3 * part + k) * channels * size + channel] = numbers[(k * size + lane) * THREADS + thread]
        if part == 0:
            scatter(table, MEAN * channels * size + vector * size, 1, origin)


@kernel
def normalize(x, residual, y, table, outer, channels, width, count, flags):
    """``y = relu((x - mean) * invstd * gamma + beta + residual)``. 2e bytes per element; a residual adds e."""
    vector, row, stop, _ = part_at(cuda.gridDim.x - 1 - cuda.blockIdx.x, outer, channels, width, count)
    m, p, r, _ = affine(x, table, channels, vector)
    for k in range(row, stop, THREADS // width):
        i = k * channels + vector
        v = fma(load(x, i) - m, p, r)
        store(y, i, add_and_clip(v, residual, i, EVERYWHERE, flags))


@kernel
def sum_gradient_parts(dy, x, y, parts, table, outer, channels, width, count, flags):
    """Sums of dy and of dy * xhat for each part; dy counts where the activation let it through.

    2e bytes per element; ReLU behind a residual adds e.
    """
    vector, row, stop, part = part_at(cuda.blockIdx.x, outer, channels, width, count)
    thread, size = cuda.threadIdx.x, lanes(x)
    m, p, r, h = affine(x, table, channels, vector)
    s, q = splat(x, 0), splat(x, 0)
    for k in range(row, stop, THREADS // width):
        i = k * channels + vector
        d = load(x, i) - m
        g = let_through(load(dy, i), d, p, r, y, i, EVERYWHERE, flags)
        s = s + g
        q = fma(g, d * h, q)
    numbers = shared(x, 2)
    scatter(numbers, thread, THREADS, s)
    scatter(numbers, THREADS * size + thread, THREADS, q)
    add_block(numbers, 2 * size, width)
    if thread < width and vector < channels:
        for lane in range(size):
            channel = vector * size + lane
            for k in range(2):
                parts[(2 * part + k) * channels * size + channel] = numbers[(k * size + lane) * THREADS + thread]


@kernel
def write_gradient(dy, x, y, dx, dresidual, table, gradients, outer, channels, width, count, flags):
    """``dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))``, FROZEN without the means.

    3e bytes per element; ReLU behind a residual adds 2e.
    """
    vector, row, stop, _ = part_at(cuda.gridDim.x - 1 - cuda.blockIdx.x, outer, channels, width, count)
    m, p, r, h = affine(x, table, channels, vector)
    start, share = min(vector, channels - 1) * lanes(x), splat(x, cast(table, 1) / cast(table, outer))
    u = gather(x, gradients, start) * share
    b = splat(x, 0) - p * gather(x, gradients, channels * lanes(x) + start) * share
    a = splat(x, 0) - gather(x, table, REST * channels * lanes(x) + start) * h * b
    for k in range(row, stop, THREADS // width):
        i = k * channels + vector
        d = load(x, i) - m
        g = let_through(load(dy, i), d, p, r, y, i, EVERYWHERE, flags)
        if flags & FROM_Y:
            store(dresidual, i, g)
        store(dx, i, g * p if flags & FROZEN else fma(g - u, p, fma(d * h, b, a)))
