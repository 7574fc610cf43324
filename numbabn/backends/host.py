"""What the backends for NumPy arrays share: the per-channel table, and formulas of its rows.

A backend is a module of four functions. Arrays of data are canonical, ``(outer, channels, inner)``::

    forward_training(x, y, parameters, residual, settings) -> table
    forward_inference(x, y, parameters, residual, settings) -> table
    backward(dy, context, dx, dresidual) -> dgamma, dbeta
    statistics(x) -> mean, var

``parameters`` are ``(gamma, beta, running_mean, running_var)``, each an array or None; ``settings`` is a
``checks.Settings``. They write ``y``, ``dx`` and ``dresidual``, update the running statistics in place in training, and
check nothing: that is done.
"""

import numpy as np

GAMMA, BETA, MEAN, REST, VAR, INVSTD = range(6)
"""Rows of the table that a forward call returns and its backward reads: float64, shape ``(6, channels)``.

REST is what rounding the mean to float64 lost, so that ``(x - MEAN) - REST`` is exact to the last digit even where the
mean is a million standard deviations from 0.
"""


def unfilled_table(channels):
    """A table with nothing filled in yet."""
    return np.empty((6, channels))


def training_table(channels, parameters):
    """A table with gamma and beta (1 and 0 where None), whose statistics are still to be filled in."""
    gamma, beta, _, _ = parameters
    table = unfilled_table(channels)
    table[GAMMA] = 1.0 if gamma is None else gamma
    table[BETA] = 0.0 if beta is None else beta
    return table


def inference_table(channels, parameters):
    """A table with all parameters, which lacks INVSTD."""
    table = training_table(channels, parameters)
    _, _, table[MEAN], table[VAR] = parameters
    table[REST] = 0.0
    return table


def exact_sum(a, b):
    """``a + b`` rounded, and what rounding lost. Source: D. Knuth, "The Art of Computer Programming", vol. 2, 4.2.2."""
    total = a + b
    part_of_b = total - a
    return total, (a - (total - part_of_b)) + (b - part_of_b)


def running_weights(momentum, correction, count):
    """Weights of the running value, the batch's mean and its biased variance; the last one removes the bias, too."""
    return 1.0 - momentum, momentum, momentum * (count / (count - correction))
