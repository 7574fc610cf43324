"""What the backends for NumPy arrays share: their arguments' small types and the per-channel table.

A backend is a module of four functions. Arrays of data are canonical, ``(outer, channels, inner)``::

    forward_training(x, y, gamma, beta, running, epilogue, eps) -> table
    forward_inference(x, y, gamma, beta, running, epilogue, eps) -> table
    backward(dy, context, dx, dresidual) -> dgamma, dbeta
    statistics(x) -> mean, var

They write ``y``, ``dx`` and ``dresidual``, update ``running`` in place in training, and check nothing: that is done.
"""

from typing import NamedTuple

import numpy as np

GAMMA, BETA, MEAN, REST, VAR, INVSTD = range(6)
"""Rows of the table that a forward call returns and its backward reads: float64, shape ``(6, channels)``.

REST is what rounding the mean to float64 lost, so that ``(x - MEAN) - REST`` is exact to the last digit even where the
mean is a million standard deviations from 0.
"""


class Running(NamedTuple):
    """Running statistics as the caller keeps them, and how a batch enters them."""

    mean: np.ndarray
    var: np.ndarray
    momentum: float
    correction: float


class Epilogue(NamedTuple):
    """What is fused behind the affine map: ``y = relu(batch_norm(x) + residual)``."""

    relu: bool
    residual: np.ndarray | None


def training_table(channels, gamma, beta):
    """A table with the parameters (1 and 0 where None), whose statistics are still to be filled in."""
    table = np.empty((6, channels))
    table[GAMMA] = 1.0 if gamma is None else gamma
    table[BETA] = 0.0 if beta is None else beta
    return table


def inference_table(channels, gamma, beta, running):
    """A table with the parameters and the running statistics, all but INVSTD."""
    table = training_table(channels, gamma, beta)
    table[MEAN] = running.mean
    table[REST] = 0.0
    table[VAR] = running.var
    return table


def exact_sum(a, b):
    """``a + b`` rounded, and what rounding lost. Source: D. Knuth, "The Art of Computer Programming", vol. 2, 4.2.2."""
    total = a + b
    part_of_b = total - a
    return total, (a - (total - part_of_b)) + (b - part_of_b)


def running_weights(running, count):
    """Weights of the old values, the batch's mean, and its biased variance, which here loses its bias."""
    new = running.momentum
    return 1.0 - new, new, new * (count / (count - running.correction))
