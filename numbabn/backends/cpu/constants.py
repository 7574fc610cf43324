"""Numbers of one channel that every element of it is computed with, in the dtype of the data ``x``.

The mean is subtracted in that dtype, exactly where x is close to it; what rounding a mean lost goes into the constant
that is added last.
"""

import numpy as np

from ...jit import device
from ..host import BETA, GAMMA, INVSTD, MEAN, REST
from .simd import cast


@device
def rounding_lost(exact, rounded, rest):
    """``exact - rounded + rest``, what is missing from a rounded value; nothing where that is not finite."""
    missing = exact - rounded + rest
    return missing if np.isfinite(missing) else 0.0


@device
def subtract_product(shift, missing, scale):
    """``shift - missing * scale``, where nothing missing is nothing even if the scale is infinite."""
    return shift - missing * scale if missing != 0 else shift


@device
def affine(x, table, channel):
    """``m, p, r, h, k`` of ``d = x - m``, ``y = d * p + r`` and ``xhat = d * h + k``."""
    mean, invstd = table[MEAN, channel], table[INVSTD, channel]
    scale = table[GAMMA, channel] * invstd
    m = cast(x, mean)
    missing = rounding_lost(mean, np.float64(m), table[REST, channel])
    r = subtract_product(table[BETA, channel], missing, scale)
    return m, cast(x, scale), cast(x, r), cast(x, invstd), cast(x, subtract_product(0.0, missing, invstd))


@device
def gradient(x, table, channel, dbeta, dgamma, count):
    """``u, a, b`` of ``dx = (dy - u) * p + xhat * b + a``: the rounded mean of dy, what rounding lost, xhat's share."""
    scale = table[GAMMA, channel] * table[INVSTD, channel]
    mean = dbeta / count
    u = cast(x, mean)
    return u, cast(x, -scale * rounding_lost(mean, np.float64(u), 0.0)), cast(x, -scale * dgamma / count)
