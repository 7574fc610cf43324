"""Numbers of one channel that every element of it is computed with, from the table.

What rounding the mean lost goes into the constant that is added last.
"""

from ..host import BETA, GAMMA, INVSTD, MEAN, REST
from .toolkit import device


@device
def affine(table, channels, channel):
    """``m, p, r, h`` of ``d = x - m``, ``y = d * p + r`` and, but for what the mean lost, ``xhat = d * h``.

    In a table of so many channels, which need not be all.
    """
    invstd, rest = table[INVSTD * channels + channel], table[REST * channels + channel]
    scale = table[GAMMA * channels + channel] * invstd
    beta = table[BETA * channels + channel]
    return table[MEAN * channels + channel], scale, beta - rest * scale if rest != 0 else beta, invstd


@device
def gradient(table, sums, channels, channel, count):
    """``u, a, b`` of ``dx = (dy - u) * p + d * h * b + a``: the mean of dy, what the mean lost, the share of xhat.

    ``sums`` are those of dy and of dy * xhat.
    """
    s, q = sums
    invstd, rest = table[INVSTD * channels + channel], table[REST * channels + channel]
    b = -table[GAMMA * channels + channel] * invstd * (q / count)
    return s / count, -rest * invstd * b if rest != 0 else rest, b
