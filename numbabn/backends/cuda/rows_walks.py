"""What a thread does with its slot in the rows that it takes, for the kernels of ``rows``.

``x`` and ``dy`` may be on chip or in the device's memory; ``sizes`` are outer, channels, slots, width and period.
"""

from ..flags import FROM_Y, FROZEN
from .epilogue import add_and_clip, let_through
from .policy import THREADS
from .simd import cast, fetch, fma, lanes, load_within, scatter, splat, store_within, vector_of
from .toolkit import cuda, device


@device
def vector_at(x, sizes, slot, row, k):
    """The vector in a slot of a row, and a span for ``simd.load_within``; its number on chip is ``k``."""
    outer, channels, _, _, _ = sizes
    start = row * channels
    return vector_of(x, start) + slot, (vector_of(x, outer * channels), start, start + channels, k)


@device
def fetch_tile(held, x, sizes, slot, row, stop):
    """Begin to copy a tile onto the chip, where the thread that does is the only one to read it."""
    k = cuda.threadIdx.x
    for at in range(row, stop, THREADS // sizes[3]):
        i, span = vector_at(x, sizes, slot, at, k)
        fetch(held, x, i, span)
        k += THREADS


@device
def sum_rows(x, origin, numbers, sizes, slot, row, stop):
    """Moments of a thread's rows, means counted from ``origin``, left in shared memory."""
    thread, size, step = cuda.threadIdx.x, lanes(x), THREADS // sizes[3] * sizes[4]
    centre = origin
    if row < stop:
        i, span = vector_at(x, sizes, slot, row, thread)
        centre = load_within(x, i, span, origin)
    n = max(0, (stop - row + step - 1) // step)
    s, q, k = splat(x, 0), splat(x, 0), thread
    for at in range(row, stop, step):
        i, span = vector_at(x, sizes, slot, at, k)
        d = load_within(x, i, span, centre) - centre
        s = s + d
        q = fma(d, d, q)
        k += THREADS
    share = splat(x, cast(numbers, 1) / cast(numbers, max(n, 1)))
    scatter(numbers, thread, THREADS, splat(x, cast(numbers, n)))
    scatter(numbers, THREADS * size + thread, THREADS, centre - origin + s * share)
    scatter(numbers, 2 * THREADS * size + thread, THREADS, q - s * (s * share))


@device
def normalize_rows(x, residual, y, constants, sizes, slot, row, stop, flags):
    """Write y in a thread's rows."""
    m, p, r, _ = constants
    k = cuda.threadIdx.x
    for at in range(row, stop, THREADS // sizes[3] * sizes[4]):
        i, span = vector_at(x, sizes, slot, at, k)
        v = fma(load_within(x, i, span, m) - m, p, r)
        store_within(y, i, span, add_and_clip(v, residual, i, span, flags))
        k += THREADS


@device
def sum_gradient_rows(dy, x, y, constants, numbers, sizes, slot, row, stop, flags):
    """Sums of dy and of dy * xhat over a thread's rows, left in shared memory."""
    m, p, r, h = constants
    s, q, nothing, k = splat(x, 0), splat(x, 0), splat(x, 0), cuda.threadIdx.x
    for at in range(row, stop, THREADS // sizes[3] * sizes[4]):
        i, span = vector_at(x, sizes, slot, at, k)
        d = load_within(x, i, span, m) - m
        g = let_through(load_within(dy, i, span, nothing), d, p, r, y, i, span, flags)
        s = s + g
        q = fma(g, d * h, q)
        k += THREADS
    scatter(numbers, cuda.threadIdx.x, THREADS, s)
    scatter(numbers, THREADS * lanes(x) + cuda.threadIdx.x, THREADS, q)


@device
def write_gradient_rows(dy, x, y, dx, dresidual, constants, terms, sizes, slot, row, stop, flags):
    """Write dx, and dresidual, in a thread's rows."""
    m, p, r, h = constants
    u, a, b = terms
    k = cuda.threadIdx.x
    for at in range(row, stop, THREADS // sizes[3] * sizes[4]):
        i, span = vector_at(x, sizes, slot, at, k)
        d = load_within(x, i, span, m) - m
        g = let_through(load_within(dy, i, span, u), d, p, r, y, i, span, flags)
        if flags & FROM_Y:
            store_within(dresidual, i, span, g)
        store_within(dx, i, span, g * p if flags & FROZEN else fma(g - u, p, fma(d * h, b, a)))
        k += THREADS
