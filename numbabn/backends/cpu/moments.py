"""Mean and M2 (the sum of squared deviations from the mean) from sums that were taken about a shift.

Values are summed as ``d = x - shift`` and ``d * d``, in vectors of their own dtype over short runs and in float64 over
those. With a shift near the mean, ``M2 = sum(d * d) - sum(d)**2 / n`` loses nothing; a look at the two sums tells
whether it was near, and if not, where the mean is: then the same values are summed once more.

Means are counted from an origin, the channel's first value: so they keep the digits that a distant mean would take.
(``float(x)`` of a float32 is a float32 to Numba, hence ``np.float64(x)`` throughout.)
"""

import numpy as np

from ...jit import apart, device, shared
from .. import host
from ..host import INVSTD, MEAN, REST, VAR
from .policy import SAMPLES
from .simd import cast, lanes_of, load, splat, total

exact_sum = shared(host.exact_sum)

GOOD, FAR, HARD = 0, 1, 2
"""Sums that can be used; whose shift was far from the mean; that the dtype cannot hold."""


@device
def all_true(count):
    """An array of as many truths. (NumPy's ``full`` takes Numba four seconds to compile.)"""
    truths = np.empty(count, np.bool_)
    for i in range(count):
        truths[i] = True
    return truths


FAR_FROM = 0.75
"""The square of the sum, by the count and the sum of squares, from which a shift is far from the mean: 1.7 standard
deviations. Nearer ones take two bits at most."""


@device
def least_square(x):
    """Mean square below which squares in the dtype of ``x`` lose digits to underflow."""
    return 1e-37 if lanes_of(x) == 16 else 1e-300


@device
def verdict(x, s, q, n, eps):
    """Whether sums about a finite shift give the variance of ``n`` values of ``x``.

    Squares that overflowed or lost digits are HARD. All zeros are good: the variance is 0, or next to nothing beside
    eps. So is a NaN.
    """
    if (q == 0 and s == 0 and eps > (1e-28 if lanes_of(x) == 16 else 1e-290)) or q != q:
        return GOOD
    if not n * least_square(x) < q < np.inf:
        return HARD
    return FAR if s * (s / n) > FAR_FROM * q else GOOD


@device
def finite_shift(x, origin, mean):
    """``origin + mean`` in the dtype of ``x``, or what is finite of it."""
    shift = cast(x, origin + mean)
    if np.isfinite(shift):
        return shift
    return cast(x, origin) if np.isfinite(origin) else cast(x, 0.0)


@device
def first_shift(x, shape, channel):
    """A first guess of a channel's mean, from a vector in the middle of some rows spread over it."""
    outer, channels, inner = shape
    origin = x[channel * inner]
    centre = splat(origin)
    s = splat(cast(x, 0.0))
    samples = min(outer, SAMPLES)
    lanes = min(inner, lanes_of(x))
    for k in range(samples):
        i = ((k * outer // samples) * channels + channel) * inner + (inner - lanes) // 2
        s += load(x, i, lanes, centre) - centre
    return finite_shift(x, np.float64(origin), total(s) / (samples * lanes))


@device
def centred(x, shape, channel, origin):
    """Mean of ``x - origin`` and M2 of a channel, in float64 by two passes: for values that their dtype cannot square.

    Slow, and rarely needed. A constant channel is told at a look.
    """
    apart()
    outer, channels, inner = shape
    start, pitch = channel * inner, channels * inner
    constant = np.isfinite(origin)
    mean = 0.0
    for row in range(outer):
        for i in range(start + row * pitch, start + row * pitch + inner):
            constant = constant and x[i] == x[start]
            mean += np.float64(x[i]) - origin
    if constant:
        return 0.0, 0.0
    mean /= outer * inner
    m2 = 0.0
    for row in range(outer):
        for i in range(start + row * pitch, start + row * pitch + inner):
            m2 += (np.float64(x[i]) - origin - mean) ** 2
    return mean, m2


@device
def finish(table, channel, origin, mean, var, eps):
    """Write a channel's statistics, its mean counted from ``origin``, to the table."""
    table[MEAN, channel], table[REST, channel] = exact_sum(origin, mean)
    table[VAR, channel] = var
    table[INVSTD, channel] = 1.0 / np.sqrt(var + eps)


@device
def finish_running(table, eps):
    """``invstd`` of a table that has running statistics, which this makes ready for use."""
    for channel in range(table.shape[1]):
        table[INVSTD, channel] = 1.0 / np.sqrt(table[VAR, channel] + eps)
