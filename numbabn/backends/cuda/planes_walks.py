"""What a thread does with its slots of a channel, for the kernels of ``planes``.

``x`` and ``dy`` may be on chip or in the device's memory; a thread's slots are those of its block from its own number
on, THREADS apart.
"""

from ..flags import FROM_Y, FROZEN
from .epilogue import add_and_clip, let_through
from .policy import THREADS
from .simd import cast, fetch, fma, lead, load_within, splat, store_within, total, vector_of, within
from .toolkit import cuda, device


@device
def place(channel, sizes, index):
    """The first element of the row that a slot is in, and its number there."""
    _, channels, inner, slots = sizes
    return (index // slots * channels + channel) * inner, index % slots


@device
def advance(row, slot, sizes):
    """The same for the slot that is THREADS further. (No division: one of 64 bits is long.)"""
    _, channels, inner, slots = sizes
    row += THREADS // slots * (channels * inner)
    slot += THREADS % slots
    return (row, slot) if slot < slots else (row + channels * inner, slot - slots)


@device
def vector_at(x, sizes, row, slot, k):
    """The vector in a slot, and a span for ``simd.load_within``; its number on chip is ``k``."""
    outer, channels, inner, _ = sizes
    return vector_of(x, row) + slot, (vector_of(x, outer * channels * inner), row, row + inner, k)


@device
def fetch_slots(held, x, sizes, channel, begin, length):
    """Begin to copy a thread's slots onto the chip, where it is the only one to read them."""
    row, slot = place(channel, sizes, begin + cuda.threadIdx.x)
    for k in range(cuda.threadIdx.x, length, THREADS):
        i, span = vector_at(x, sizes, row, slot, k)
        fetch(held, x, i, span)
        row, slot = advance(row, slot, sizes)


@device
def sum_slots(x, origin, numbers, sizes, channel, begin, length):
    """Moments of a thread's slots, its mean counted from ``origin``, left in shared memory."""
    thread, n = cuda.threadIdx.x, 0
    row, slot = place(channel, sizes, begin + thread)
    shift = origin
    if thread < length:
        i, span = vector_at(x, sizes, row, slot, thread)
        shift = lead(x, load_within(x, i, span, splat(x, origin)), i, span, origin)
    centre, s, q = splat(x, shift), splat(x, 0), splat(x, 0)
    for k in range(thread, length, THREADS):
        i, span = vector_at(x, sizes, row, slot, k)
        d = load_within(x, i, span, centre) - centre
        s = s + d
        q = fma(d, d, q)
        n += within(x, i, span)
        row, slot = advance(row, slot, sizes)
    values = cast(numbers, n)
    numbers[thread] = values
    numbers[THREADS + thread] = shift - origin + total(s) / values if n > 0 else values
    numbers[2 * THREADS + thread] = total(q) - total(s) * (total(s) / values) if n > 0 else values


@device
def normalize_slots(x, residual, y, constants, sizes, channel, begin, length, flags):
    """Write y in a thread's slots."""
    m, p, r, _ = constants
    m, p, r = splat(x, m), splat(x, p), splat(x, r)
    row, slot = place(channel, sizes, begin + cuda.threadIdx.x)
    for k in range(cuda.threadIdx.x, length, THREADS):
        i, span = vector_at(x, sizes, row, slot, k)
        v = fma(load_within(x, i, span, m) - m, p, r)
        store_within(y, i, span, add_and_clip(v, residual, i, span, flags))
        row, slot = advance(row, slot, sizes)


@device
def sum_gradient_slots(dy, x, y, constants, numbers, sizes, channel, begin, length, flags):
    """Sums of dy and of dy * xhat over a thread's slots, left in shared memory."""
    m, p, r, h = constants
    m, p, r, h = splat(x, m), splat(x, p), splat(x, r), splat(x, h)
    s, q, nothing = splat(x, 0), splat(x, 0), splat(x, 0)
    row, slot = place(channel, sizes, begin + cuda.threadIdx.x)
    for k in range(cuda.threadIdx.x, length, THREADS):
        i, span = vector_at(x, sizes, row, slot, k)
        d = load_within(x, i, span, m) - m
        g = let_through(load_within(dy, i, span, nothing), d, p, r, y, i, span, flags)
        s = s + g
        q = fma(g, d * h, q)
        row, slot = advance(row, slot, sizes)
    numbers[cuda.threadIdx.x], numbers[THREADS + cuda.threadIdx.x] = total(s), total(q)


@device
def write_gradient_slots(dy, x, y, dx, dresidual, constants, terms, sizes, channel, begin, length, flags):
    """Write dx, and dresidual, in a thread's slots."""
    m, p, r, h = constants
    u, a, b = terms
    m, p, r, h = splat(x, m), splat(x, p), splat(x, r), splat(x, h)
    u, a, b = splat(x, u), splat(x, a), splat(x, b)
    row, slot = place(channel, sizes, begin + cuda.threadIdx.x)
    for k in range(cuda.threadIdx.x, length, THREADS):
        i, span = vector_at(x, sizes, row, slot, k)
        d = load_within(x, i, span, m) - m
        g = let_through(load_within(dy, i, span, u), d, p, r, y, i, span, flags)
        if flags & FROM_Y:
            store_within(dresidual, i, span, g)
        store_within(dx, i, span, g * p if flags & FROZEN else fma(g - u, p, fma(d * h, b, a)))
        row, slot = advance(row, slot, sizes)
