"""Numbers of one channel that every element of it is computed with, from the table.

What rounding the mean lost goes into the constant that is added last.
"""

import math

from ..host import BETA, GAMMA, INVSTD, MEAN, REST
from .simd import cast
from .toolkit import device


@device
def without_missing(value, missing, scale):
    """``value - missing * scale``, or ``value`` where that product is 0 or not finite.

    So -0.0 stays what it is, and what is infinite through a sum or the scale does not become ``inf - inf``, NaN.
    """
    product = missing * scale
    return value - product if product != 0 and -math.inf < product < math.inf else value


@device
def affine(table, channels, channel):
    """``m, p, r, h`` of ``d = x - m``, ``y = d * p + r`` and, but for what the mean lost, ``xhat = d * h``.

    In a table of so many channels, which need not be all.
    """
    invstd, rest = table[INVSTD * channels + channel], table[REST * channels + channel]
    scale = table[GAMMA * channels + channel] * invstd
    offset = without_missing(table[BETA * channels + channel], rest, scale)
    return table[MEAN * channels + channel], scale, offset, invstd


@device
def gradient(table, sums, channels, channel, count):
    """``u, a, b`` of ``dx = (dy - u) * p + d * h * b + a``: the mean of dy, what the mean lost, the share of xhat.

    ``sums`` are those of dy and of dy * xhat.
    """
    s, q = sums
    invstd, rest = table[INVSTD * channels + channel], table[REST * channels + channel]
    b = -table[GAMMA * channels + channel] * invstd * (q / count)
    return s / count, without_missing(cast(table, 0), rest * invstd, b), b
