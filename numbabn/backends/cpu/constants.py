"""Numbers of one channel that every element of it is computed with, in the dtype of the data ``x``.

The mean is subtracted in that dtype, exactly where x is close to it; what rounding a mean lost goes into the constant
that is added last.
"""

import numpy as np

from ...jit import device, noinline
from ..host import BETA, GAMMA, INVSTD, MEAN, REST
from .memory import cast

M, P, R, H, U, A, B = range(7)
"""Rows of matrices of constants: the mean, gamma * invstd, beta, invstd, the mean of dy, and two of the gradient.
``d = x - M``, ``y = d * P + R``, ``xhat = d * H``, ``dx = (dy - U) * P + d * H * B + A``."""

SHIFT, FORWARD, FORWARD_AND_H, GRADIENT = (M, P), (M, H), (M, U), (U, B + 1)
"""Ranges of them: the shift of sums, where the mean will stand; what forward needs; what backward's sums need, and
what they give."""


@device
def rounding_lost(exact, rounded, rest):
    """``exact - rounded + rest``, what is missing from a rounded value; nothing where that is not finite."""
    missing = exact - rounded + rest
    return missing if np.isfinite(missing) else 0.0


@device
def without_missing(value, missing, scale):
    """``value - missing * scale``, or ``value`` where that product is 0 or not finite.

    So -0.0 stays what it is, and what is infinite through a sum or the scale does not become ``inf - inf``, NaN.
    """
    product = missing * scale
    return value - product if 0.0 < abs(product) < np.inf else value


@device
def lost_of_mean(x, table, channel):
    """What rounding a channel's mean to the dtype of ``x`` lost."""
    mean = table[MEAN, channel]
    return rounding_lost(mean, np.float64(cast(x, mean)), table[REST, channel])


@device
def affine(x, table, channel):
    """``m, p, r, h`` of ``d = x - m``, ``y = d * p + r`` and, but for what the mean lost, ``xhat = d * h``."""
    invstd = table[INVSTD, channel]
    scale = table[GAMMA, channel] * invstd
    r = without_missing(table[BETA, channel], lost_of_mean(x, table, channel), scale)
    return cast(x, table[MEAN, channel]), cast(x, scale), cast(x, r), cast(x, invstd)


@device
def set_constants(x, table, count, values):
    """Constants that do not depend on the gradient, of a table's first channels.

    A loop for each: LLVM vectorises one that has few addresses.
    """
    noinline()
    for c in range(count):
        values[M, c] = affine(x, table, c)[0]
    for c in range(count):
        values[P, c] = affine(x, table, c)[1]
    for c in range(count):
        values[R, c] = affine(x, table, c)[2]
    for c in range(count):
        values[H, c] = affine(x, table, c)[3]


@device
def set_gradient_constants(x, table, sums, count, weight, values):
    """The others, from the sums of dy and of dy * d * h, the latter of which become those of dy * xhat.

    ``weight`` is the inverse of the count.
    """
    noinline()
    for c in range(count):
        sums[1, c] = dgamma_from(x, table, c, sums[0, c], sums[1, c])
    for c in range(count):
        values[U, c] = gradient(x, table, c, sums[0, c], sums[1, c], weight)[0]
    for c in range(count):
        values[A, c] = gradient(x, table, c, sums[0, c], sums[1, c], weight)[1]
    for c in range(count):
        values[B, c] = gradient(x, table, c, sums[0, c], sums[1, c], weight)[2]


@device
def dgamma_from(x, table, channel, dbeta, dgamma):
    """The sum of dy * xhat from that of dy * d * h, which lacks what the mean lost."""
    return without_missing(dgamma, lost_of_mean(x, table, channel) * table[INVSTD, channel], dbeta)


@device
def gradient(x, table, channel, dbeta, dgamma, weight):
    """``u, a, b`` of ``dx = (dy - u) * p + d * h * b + a``: the mean of dy, what roundings lost, the share of xhat.

    ``weight`` is the inverse of the count.
    """
    invstd = table[INVSTD, channel]
    scale = table[GAMMA, channel] * invstd
    mean = dbeta * weight
    u = cast(x, mean)
    b = -scale * (dgamma * weight)
    a = -scale * rounding_lost(mean, np.float64(u), 0.0)
    return u, cast(x, without_missing(a, lost_of_mean(x, table, channel) * invstd, b)), cast(x, b)
