"""What a thread does with its slot in the rows that it takes, for the kernels of ``rows``.

Those of its ``piece``, ``(slot, row, stop)``: from ``row`` on, ``step`` apart, before ``stop``. ``x`` and ``dy`` may be
on chip or in the device's memory; ``sizes`` are outer, channels, slots, width and period.
"""

from ..flags import FROM_Y
from .block import fetch
from .epilogue import centred_and_open, input_gradient, normalized
from .policy import THREADS
from .simd import cast, fma, lanes, load_within, scatter, splat, store_within, vector_of
from .toolkit import cuda, device


@device
def vector_at(x, sizes, slot, row, k):
    """The vector in a slot of a row, and a span for ``simd.load_within``; its number on chip is ``k``."""
    outer, channels, _, _, _ = sizes
    start = row * channels
    return vector_of(x, start) + slot, (vector_of(x, outer * channels), start, start + channels, k)


@device
def step_of(sizes):
    """From one of a thread's rows to the next."""
    _, _, _, width, period = sizes
    return THREADS // width * period


@device
def fetch_rows(chip, x, sizes, piece):
    """Begin to copy a thread's rows onto the chip, where it is the only one to read them."""
    slot, row, stop = piece
    k = cuda.threadIdx.x
    for at in range(row, stop, step_of(sizes)):
        i, span = vector_at(x, sizes, slot, at, k)
        fetch(chip, x, i, span)
        k += THREADS


@device
def sum_rows(x, origins, sums, sizes, piece):
    """Moments of a thread's rows, means counted from ``origins``, left in shared memory."""
    slot, row, stop = piece
    thread, size, step, centre = cuda.threadIdx.x, lanes(x), step_of(sizes), origins
    if row < stop:
        i, span = vector_at(x, sizes, slot, row, thread)
        centre = load_within(x, i, span, origins)
    n = max(0, (stop - row + step - 1) // step)
    s, q, k = splat(x, 0), splat(x, 0), thread
    for at in range(row, stop, step):
        i, span = vector_at(x, sizes, slot, at, k)
        d = load_within(x, i, span, centre) - centre
        s = s + d
        q = fma(d, d, q)
        k += THREADS
    share = splat(x, cast(sums, 1) / cast(sums, max(n, 1)))
    scatter(sums, thread, THREADS, splat(x, cast(sums, n)))
    scatter(sums, THREADS * size + thread, THREADS, centre - origins + s * share)
    scatter(sums, 2 * THREADS * size + thread, THREADS, q - s * (s * share))


@device
def normalize_rows(x, residual, y, constants, sizes, piece, flags):
    """Write y in a thread's rows."""
    slot, row, stop = piece
    k = cuda.threadIdx.x
    for at in range(row, stop, step_of(sizes)):
        i, span = vector_at(x, sizes, slot, at, k)
        store_within(y, i, span, normalized(x, residual, i, span, constants, flags))
        k += THREADS


@device
def sum_gradient_rows(dy, x, y, constants, sums, sizes, piece, flags):
    """Sums of dy and of dy * xhat over a thread's rows, left in shared memory."""
    slot, row, stop = piece
    s, q, nothing, k = splat(x, 0), splat(x, 0), splat(x, 0), cuda.threadIdx.x
    for at in range(row, stop, step_of(sizes)):
        i, span = vector_at(x, sizes, slot, at, k)
        d, g = centred_and_open(dy, x, y, i, span, constants, nothing, flags)
        s = s + g
        q = fma(g, d * constants[3], q)
        k += THREADS
    scatter(sums, cuda.threadIdx.x, THREADS, s)
    scatter(sums, THREADS * lanes(x) + cuda.threadIdx.x, THREADS, q)


@device
def write_gradient_rows(dy, x, y, dx, dresidual, constants, terms, sizes, piece, flags):
    """Write dx, and dresidual, in a thread's rows."""
    slot, row, stop = piece
    k = cuda.threadIdx.x
    for at in range(row, stop, step_of(sizes)):
        i, span = vector_at(x, sizes, slot, at, k)
        d, g = centred_and_open(dy, x, y, i, span, constants, terms[0], flags)
        if flags & FROM_Y:
            store_within(dresidual, i, span, g)
        store_within(dx, i, span, input_gradient(d, g, constants, terms, flags))
        k += THREADS
