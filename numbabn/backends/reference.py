"""The specification: batch normalization in plain float64 NumPy, a line per formula.

Sources: S. Ioffe and C. Szegedy, "Batch Normalization", 2015, algorithms 1 and 2 and the gradients after them.
"""

import numpy as np

from .host import (
    BETA,
    GAMMA,
    INVSTD,
    MEAN,
    REST,
    VAR,
    exact_sum,
    inference_table,
    running_weights,
    training_table,
    unfilled_table,
)

HALVES = True
"""Whether data may be float16 or bfloat16."""


def statistics(x):
    """Mean and biased variance of each channel."""
    table = _with_statistics(x, unfilled_table(x.shape[1]))
    return table[MEAN], table[VAR]


def _with_statistics(x, table, eps=0.0):
    """Fill in the batch's statistics.

    They are those of ``x - origin``, the channel's first value, which is exact: a mean far from 0 takes no digits.
    """
    origin = x[0, :, 0].astype(np.float64)
    x = x - _per_channel(origin)
    mean = x.mean(axis=(0, 2))
    table[MEAN], table[REST] = exact_sum(origin, mean)
    table[VAR] = np.square(x - _per_channel(mean)).mean(axis=(0, 2))
    table[INVSTD] = 1.0 / np.sqrt(table[VAR] + eps)
    return table


def forward_training(x, y, parameters, residual, settings):
    """Normalise with the batch's own statistics; let them enter the running ones."""
    table = _with_statistics(x, training_table(x.shape[1], parameters), settings.eps)
    y[...] = _normalize(x, table, residual, settings.relu)
    update_running(parameters, table, settings, count=x.shape[0] * x.shape[2])
    return table


def forward_inference(x, y, parameters, residual, settings):
    """Normalise with the running statistics, which are constants here."""
    table = inference_table(x.shape[1], parameters)
    with np.errstate(all="ignore"):  # a variance that is no number, or 0 with eps 0, is its own channel's matter
        table[INVSTD] = 1.0 / np.sqrt(table[VAR] + settings.eps)
    y[...] = _normalize(x, table, residual, settings.relu)
    return table


def backward(dy, context, dx, dresidual):
    """Gradients with respect to x, gamma, beta and the residual."""
    x, dy, table = context.x, dy.astype(np.float64), context.table
    xhat = _xhat(x, table)
    if context.relu:
        before = _affine(x, table) if context.y is None else context.y
        dy = np.where(before <= 0, 0.0, dy)
    if dresidual is not None:
        dresidual[...] = dy
    dbeta = dy.sum(axis=(0, 2))
    dgamma = (dy * xhat).sum(axis=(0, 2))
    if context.training:
        count = x.shape[0] * x.shape[2]
        dy = dy - _per_channel(dbeta / count) - xhat * _per_channel(dgamma / count)
    dx[...] = _per_channel(table[GAMMA] * table[INVSTD]) * dy
    return dgamma, dbeta


def _normalize(x, table, residual, relu):
    y = _affine(x, table)
    if residual is not None:
        y = y + residual
    return np.where(y < 0, 0.0, y) if relu else y


def _affine(x, table):
    return _xhat(x, table) * _per_channel(table[GAMMA]) + _per_channel(table[BETA])


def _xhat(x, table):
    return ((x - _per_channel(table[MEAN])) - _per_channel(table[REST])) * _per_channel(table[INVSTD])


def _per_channel(values):
    return values[None, :, None]


def update_running(parameters, table, settings, count):
    """``(1 - momentum) * running + momentum * batch``, computed in float64 and rounded once."""
    _, _, running_mean, running_var = parameters
    if running_mean is None or settings.momentum == 0:
        return
    # as NumPy's numbers: Python's would leave float32 arrays float32
    old, new_mean, new_var = map(np.float64, running_weights(settings.momentum, settings.correction, count))
    with np.errstate(all="ignore"):  # both or none: an overflow must not raise between the two
        mean = (old * running_mean + new_mean * table[MEAN]).astype(running_mean.dtype)
        var = (old * running_var + new_var * table[VAR]).astype(running_var.dtype)
    running_mean[...] = mean
    running_var[...] = var
