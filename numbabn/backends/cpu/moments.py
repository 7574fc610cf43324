"""Count, mean and M2 (the sum of squared deviations from the mean): how sums become them, and how two are merged.

Means are counted from an origin, the channel's first value: so they keep the digits that a distant mean would take.
(``float(x)`` of a float32 is a float32 to Numba, hence ``np.float64(x)`` throughout.)
"""

import numpy as np

from ...jit import device, shared
from .. import host
from ..host import INVSTD, MEAN, REST, VAR

exact_sum = shared(host.exact_sum)


@device
def merge(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """Moments of two sets together.

    Source: T. Chan, G. Golub and R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979.
    """
    count = count_a + count_b
    delta = mean_b - mean_a
    weight = count_b / count
    return count, mean_a + delta * weight, m2_a + m2_b + delta * delta * count_a * weight


@device
def cancels(s, q, n):
    """Whether ``q - s*s/n`` would lose more than a bit: the shift is over a standard deviation from the mean."""
    return s * s > 0.5 * n * q


@device
def is_precise(x, q):
    """Whether a sum of squares in the dtype of ``x`` neither overflowed nor lost digits to underflow (nor is NaN)."""
    low, high = (1e-26, 1e37) if x.itemsize == 4 else (1e-280, 1e307)
    return low < q < high


@device
def centred(x, origin, offset, rows, length, pitch):
    """Mean of ``x - origin`` and M2 over a run in float64, by two passes; a constant run is told at a look.

    For values whose squares the dtype of ``x`` cannot hold, or whose mean is far from any shift that was tried.
    """
    flat = x.reshape(-1)
    constant = True
    for row in range(rows):
        for i in range(offset + row * pitch, offset + row * pitch + length):
            constant = constant and flat[i] == flat[offset]
    if constant:
        return np.float64(flat[offset]) - origin, 0.0
    mean = 0.0
    for row in range(rows):
        for i in range(offset + row * pitch, offset + row * pitch + length):
            mean += np.float64(flat[i]) - origin
    mean /= rows * length
    m2 = 0.0
    for row in range(rows):
        for i in range(offset + row * pitch, offset + row * pitch + length):
            m2 += (np.float64(flat[i]) - origin - mean) ** 2
    return mean, m2


@device
def finish(table, channel, origin, mean, var, eps):
    """Write a channel's statistics, its mean counted from ``origin``, to the table."""
    table[MEAN, channel], table[REST, channel] = exact_sum(origin, mean)
    table[VAR, channel] = var
    table[INVSTD, channel] = 1.0 / np.sqrt(var + eps)


@device
def rounding_lost(exact, rounded, rest):
    """``exact - rounded + rest``, what is missing from a rounded value; nothing where that is not finite."""
    missing = exact - rounded + rest
    return missing if np.isfinite(missing) else 0.0


@device
def subtract_product(shift, missing, scale):
    """``shift - missing * scale``, where nothing missing is nothing even if the scale is infinite."""
    return shift - missing * scale if missing != 0 else shift
