"""What a thread does with its slots of a channel, for the kernels of ``planes``.

A thread's slots are those of its block's ``piece``, ``(channel, begin, length)``, from its own number on, THREADS
apart. ``x`` and ``dy`` may be on chip or in the device's memory; ``sizes`` are those of ``sizes_and_steps``.
"""

from ..flags import FROM_Y
from .block import fetch
from .epilogue import centred_and_open, input_gradient, normalized
from .policy import THREADS
from .simd import cast, count_within, first_within, fma, load_within, splat, store_within, total, vector_of
from .toolkit import cuda, device


@device
def sizes_and_steps(outer, channels, inner, slots):
    """Sizes, and from a slot to the one THREADS further: how many elements of whole rows, and slots.

    A walk would otherwise divide at every slot, which takes three times as many instructions as all else that it does.
    """
    rows = THREADS // slots
    return outer, channels, inner, slots, rows * (channels * inner), THREADS - rows * slots


@device
def row_and_slot(channel, sizes, index):
    """The first element of the row that a slot is in, and its number there. (``%`` would divide once more.)"""
    _, channels, inner, slots, _, _ = sizes
    row = index // slots
    return (row * channels + channel) * inner, index - row * slots


@device
def next_row_and_slot(row, slot, sizes):
    """The same for the slot that is THREADS further."""
    _, channels, inner, slots, rows_on, slots_on = sizes
    row += rows_on
    slot += slots_on
    return (row, slot) if slot < slots else (row + channels * inner, slot - slots)


@device
def vector_at(x, sizes, row, slot, k):
    """The vector in a slot, and a span for ``simd.load_within``; its number on chip is ``k``."""
    outer, channels, inner, _, _, _ = sizes
    return vector_of(x, row) + slot, (vector_of(x, outer * channels * inner), row, row + inner, k)


@device
def splatted(x, constants):
    """Vectors of the four numbers."""
    m, p, r, h = constants
    return splat(x, m), splat(x, p), splat(x, r), splat(x, h)


@device
def fetch_slots(chip, x, sizes, piece):
    """Begin to copy a thread's slots onto the chip, where it is the only one to read them."""
    channel, begin, length = piece
    row, slot = row_and_slot(channel, sizes, begin + cuda.threadIdx.x)
    for k in range(cuda.threadIdx.x, length, THREADS):
        i, span = vector_at(x, sizes, row, slot, k)
        fetch(chip, x, i, span)
        row, slot = next_row_and_slot(row, slot, sizes)


@device
def sum_slots(x, origin, sums, sizes, piece):
    """Moments of a thread's slots, its mean counted from ``origin``, left in shared memory."""
    channel, begin, length = piece
    thread, n, shift = cuda.threadIdx.x, 0, origin
    row, slot = row_and_slot(channel, sizes, begin + thread)
    if thread < length:
        i, span = vector_at(x, sizes, row, slot, thread)
        shift = first_within(x, load_within(x, i, span, splat(x, origin)), i, span, origin)
    centre, s, q = splat(x, shift), splat(x, 0), splat(x, 0)
    for k in range(thread, length, THREADS):
        i, span = vector_at(x, sizes, row, slot, k)
        d = load_within(x, i, span, centre) - centre
        s = s + d
        q = fma(d, d, q)
        n += count_within(x, i, span)
        row, slot = next_row_and_slot(row, slot, sizes)
    values = cast(sums, n)
    sums[thread] = values
    sums[THREADS + thread] = shift - origin + total(s) / values if n > 0 else values
    sums[2 * THREADS + thread] = total(q) - total(s) * (total(s) / values) if n > 0 else values


@device
def normalize_slots(x, residual, y, constants, sizes, piece, flags):
    """Write y in a thread's slots."""
    channel, begin, length = piece
    constants = splatted(x, constants)
    row, slot = row_and_slot(channel, sizes, begin + cuda.threadIdx.x)
    for k in range(cuda.threadIdx.x, length, THREADS):
        i, span = vector_at(x, sizes, row, slot, k)
        store_within(y, i, span, normalized(x, residual, i, span, constants, flags))
        row, slot = next_row_and_slot(row, slot, sizes)


@device
def sum_gradient_slots(dy, x, y, constants, sums, sizes, piece, flags):
    """Sums of dy and of dy * xhat over a thread's slots, left in shared memory."""
    channel, begin, length = piece
    constants = splatted(x, constants)
    s, q, nothing = splat(x, 0), splat(x, 0), splat(x, 0)
    row, slot = row_and_slot(channel, sizes, begin + cuda.threadIdx.x)
    for k in range(cuda.threadIdx.x, length, THREADS):
        i, span = vector_at(x, sizes, row, slot, k)
        d, g = centred_and_open(dy, x, y, i, span, constants, nothing, flags)
        s = s + g
        q = fma(g, d * constants[3], q)
        row, slot = next_row_and_slot(row, slot, sizes)
    sums[cuda.threadIdx.x], sums[THREADS + cuda.threadIdx.x] = total(s), total(q)


@device
def write_gradient_slots(dy, x, y, dx, dresidual, constants, terms, sizes, piece, flags):
    """Write dx, and dresidual, in a thread's slots."""
    channel, begin, length = piece
    u, a, b = terms
    constants, terms = splatted(x, constants), (splat(x, u), splat(x, a), splat(x, b))
    row, slot = row_and_slot(channel, sizes, begin + cuda.threadIdx.x)
    for k in range(cuda.threadIdx.x, length, THREADS):
        i, span = vector_at(x, sizes, row, slot, k)
        d, g = centred_and_open(dy, x, y, i, span, constants, terms[0], flags)
        if flags & FROM_Y:
            store_within(dresidual, i, span, g)
        store_within(dx, i, span, input_gradient(d, g, constants, terms, flags))
        row, slot = next_row_and_slot(row, slot, sizes)
