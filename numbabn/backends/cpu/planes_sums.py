"""The first walk of ``planes``: sums over a channel or a part of it, in vectors within a run, in float64 across runs.

Tried and dropped: short rows of neighbouring channels in the order of memory, with the channels' sums in memory
meanwhile; no faster in forward and backward, whose second walk over the channels before prefetches them.
"""

from ...jit import device, noinline
from .epilogue import let_through
from .memory import cast, load, prefetch, store, vector_length
from .planes_cut import ahead_of_sums, run_at, runs_of
from .planes_source import moved
from .simd import fma, splat, total


@device
def keep(memory, offset, count, value, is_copy):
    """Store what the first walk read, where the second reads copies."""
    if is_copy:
        store(memory, offset, count, value)


@device
def part_sums(x, shape, channel, part, shift, source):
    """Sums of ``x - shift`` and of its square. Where the source is a copy, this fills it."""
    noinline()
    centre = splat(shift)
    size = vector_length(x)
    pitch = shape[1] * shape[2]
    ahead = ahead_of_sums(shape)
    sum_d, sum_dd = 0.0, 0.0
    first, last = runs_of(source.cut, part)
    for run in range(first, last):
        offset, rows, length = run_at(shape, source.cut, channel, run)
        move, more = moved(source, shape, channel, run)
        s0 = s1 = q0 = q1 = splat(cast(x, 0.0))
        for row in range(rows):
            i = offset + row * pitch
            end = i + length
            j = i + move + row * more
            while i < end:
                prefetch(x, i + ahead)
                v = load(x, i, end - i, centre)
                keep(source.x, j, end - i, v, source.is_copy)
                a = v - centre
                s0 += a
                q0 = fma(a, a, q0)
                i += size
                j += size
                if i < end:
                    prefetch(x, i + ahead)
                    v = load(x, i, end - i, centre)
                    keep(source.x, j, end - i, v, source.is_copy)
                    b = v - centre
                    s1 += b
                    q1 = fma(b, b, q1)
                    i += size
                    j += size
        sum_d += total(s0 + s1)
        sum_dd += total(q0 + q1)
    return sum_d, sum_dd


@device
def channel_sums(x, shape, channel, shift, source):
    """The two sums of a channel about a shift."""
    s, q = 0.0, 0.0
    for part in range(source.cut.parts):
        part_s, part_q = part_sums(x, shape, channel, part, shift, source)
        s += part_s
        q += part_q
    return s, q


@device
def part_gradient_sums(inputs, shape, channel, part, numbers, flags, source):
    """Sums of dy and of dy * d * h; dy counts where the activation let it through. Fills copies, too."""
    noinline()
    dy, x, y = inputs
    m, p, r, h = numbers
    m, p, r, h = splat(m), splat(p), splat(r), splat(h)
    zero = splat(cast(x, 0.0))
    size = vector_length(x)
    pitch = shape[1] * shape[2]
    ahead = ahead_of_sums(shape)
    dbeta, dgamma = 0.0, 0.0
    first, last = runs_of(source.cut, part)
    for run in range(first, last):
        offset, rows, length = run_at(shape, source.cut, channel, run)
        move, more = moved(source, shape, channel, run)
        s = q = zero
        for row in range(rows):
            i = offset + row * pitch
            end = i + length
            j = i + move + row * more
            while i < end:
                prefetch(x, i + ahead)
                prefetch(dy, i + ahead)
                v, g = load(x, i, end - i, m), load(dy, i, end - i, zero)
                keep(source.x, j, end - i, v, source.is_copy)
                keep(source.dy, j, end - i, g, source.is_copy)
                d = v - m
                g = let_through(g, d, p, r, y, i, end - i, flags)
                s += g
                q = fma(g, d * h, q)
                i += size
                j += size
        dbeta += total(s)
        dgamma += total(q)
    return dbeta, dgamma


@device
def channel_gradient_sums(inputs, shape, channel, numbers, flags, source):
    """Sums of dy and of dy * d * h over a channel; ``numbers`` are its ``affine``."""
    dbeta, dgamma = 0.0, 0.0
    for part in range(source.cut.parts):
        part_dbeta, part_dgamma = part_gradient_sums(inputs, shape, channel, part, numbers, flags, source)
        dbeta += part_dbeta
        dgamma += part_dgamma
    return dbeta, dgamma
