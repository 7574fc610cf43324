"""Mean and biased variance from sums that were taken about a shift, a guess of the mean.

Values are summed as ``d = x - shift`` and ``d * d``, in vectors of their own dtype over short runs and in float64 over
those. With a shift near the mean, ``n * var = sum(d * d) - sum(d)**2 / n`` loses two bits at most; a look at the two
sums tells whether it was near, and if not, where the mean is: then the same values are summed again, about that. A mean
rounded to the dtype of its values is less than a deviation off unless their squares are lost, so this ends.

Means are counted from an origin, the channel's first value: so they keep the digits that a distant mean would take.
(``float(x)`` of a float32 is a float32 to Numba, hence ``np.float64(x)`` throughout.)
"""

import numpy as np

from ...jit import device, noinline, shared
from .. import host
from ..host import INVSTD, MEAN, REST, VAR
from .memory import cast, vector_length

exact_sum = shared(host.exact_sum)

GOOD, FAR, HARD = 0, 1, 2
"""Sums that can be used; whose shift was far from the mean; that the dtype cannot hold."""


FAR_FROM = 0.75
"""The square of the sum, by the count and the sum of squares, from which a shift is far from the mean: 1.7 standard
deviations. Nearer ones take two bits at most."""


@device
def is_single(x):
    """Whether ``x`` is float32, not float64."""
    return vector_length(x) == 16


@device
def least_square(x):
    """Mean square below which squares in the dtype of ``x`` lose digits to underflow, with a margin.

    Normal numbers end at 1e-38 or 2e-308.
    """
    return 1e-37 if is_single(x) else 1e-300


@device
def least_eps(x):
    """Least eps beside which deviations do not count whose squares vanish in the dtype of ``x``.

    Those squares are below 1e-45 or 5e-324.
    """
    return 1e-28 if is_single(x) else 1e-290


@device
def is_near(s, q, weight):
    """Whether sums show their shift near the mean; ``weight`` is the inverse of the count."""
    return s * (s * weight) <= FAR_FROM * q


@device
def verdict(x, s, q, n, eps):
    """Whether sums about a finite shift give the variance of ``n`` values of ``x``.

    Squares that overflowed or lost digits are HARD. All zeros are good: the variance is 0, or next to nothing beside
    eps. So is a NaN.
    """
    if (q == 0 and s == 0 and eps > least_eps(x)) or q != q:
        return GOOD
    if not n * least_square(x) < q < np.inf:
        return HARD
    return GOOD if is_near(s, q, 1.0 / n) else FAR


@device
def mean_and_var(shift, s, q, weight):
    """The mean and the biased variance from sums about a shift and the inverse of the count.

    Tried and dropped: two passes over every run, the second about its own mean; 3.8 ms instead of 3.2 on float32
    (32, 64, 56, 56) with one thread, and errors of the variance alike (1.0e-8 and 1.4e-8).
    """
    return shift + s * weight, (q - s * (s * weight)) * weight


@device
def settle(x, shape, channel, shift, s, q, table, eps):
    """Write a channel's statistics from its sums about ``shift``; False where it needs new ones, about the mean."""
    n = float(shape[0] * shape[2])
    origin = np.float64(x[channel * shape[2]])
    judged = verdict(x, s, q, n, eps)
    mean, var = mean_and_var(np.float64(shift) - origin, s, q, 1.0 / n)
    if judged == HARD:
        mean, var = centred(x, shape, channel, origin)
    finish(table, channel, origin, mean, var, eps)
    return judged != FAR


@device
def settle_all(x, shape, count, shifts, sums, table, eps):
    """The same for a table's first channels, if that is easy for all of them: whether it was.

    Loops of few addresses, which LLVM can tell apart, and so vectorise: with many channels of few values this is much
    of the work.
    """
    noinline()
    n, inner = float(shape[0] * shape[2]), shape[2]
    least, weight = n * least_square(x), 1.0 / n
    good = np.intp(0)
    for c in range(count):
        s, q = sums[0, c], sums[1, c]
        good += (q > least) & (q < np.inf) & is_near(s, q, weight)
    if good < count:
        return False
    for c in range(count):
        shift = np.float64(shifts[c]) - np.float64(x[c * inner])
        sums[0, c], sums[1, c] = mean_and_var(shift, sums[0, c], sums[1, c], weight)
    for c in range(count):
        table[MEAN, c], table[REST, c] = exact_sum(np.float64(x[c * inner]), sums[0, c])
    for c in range(count):
        table[VAR, c] = sums[1, c]
    fill_invstd(table, count, eps)
    return True


@device
def finite_shift(x, origin, mean):
    """``origin + mean`` in the dtype of ``x``, or what is finite of it."""
    shift = cast(x, origin + mean)
    if np.isfinite(shift):
        return shift
    return cast(x, origin) if np.isfinite(origin) else cast(x, 0.0)


@device
def centred(x, shape, channel, origin):
    """Mean of ``x - origin`` and biased variance of a channel, in float64 by two passes.

    For values that their dtype cannot square: slow, and rarely needed. A constant channel is told at a look.
    """
    noinline()
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
    return mean, m2 / (outer * inner)


@device
def finish(table, channel, origin, mean, var, eps):
    """Write a channel's statistics, its mean counted from ``origin``, to the table."""
    table[MEAN, channel], table[REST, channel] = exact_sum(origin, mean)
    table[VAR, channel] = var
    table[INVSTD, channel] = invstd(var, eps)


@device
def fill_invstd(table, count, eps):
    """Write the last of the first channels' statistics, the others being given."""
    for channel in range(count):
        table[INVSTD, channel] = invstd(table[VAR, channel], eps)


@device
def invstd(var, eps):
    """The inverse of the standard deviation that values are divided by."""
    return 1.0 / np.sqrt(var + eps)
