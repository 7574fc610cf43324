"""Batch normalization for NumPy arrays in parallel Numba kernels.

Two families: ``planes`` where a channel's values lie in contiguous rows, ``rows`` where channels lie side by side, or
where their rows are too short to fill a vector.
"""

import numpy as np

from .. import reference
from ..host import MEAN, VAR, inference_table, training_table, update_running
from . import planes, rows
from .epilogue import ADDS, CLIPS, FROM_X, FROM_Y, FROZEN
from .policy import FEW, PLANES_FROM


def statistics(x):
    """Mean and biased variance of each channel."""
    table = training_table(x.shape[1], None, None)
    _family(x).statistics(_writeable(x), table, 0.0)
    return table[MEAN], table[VAR]


def forward_training(x, y, gamma, beta, running, epilogue, eps):
    """Normalise with the batch's own statistics; let them enter the running ones."""
    table = training_table(x.shape[1], gamma, beta)
    _family(x).forward_training(*_operands(x, y, epilogue), table, eps, _flags(epilogue))
    update_running(running, table, count=x.shape[0] * x.shape[2])
    return table


def forward_inference(x, y, gamma, beta, running, epilogue, eps):
    """Normalise with the running statistics, which are constants here."""
    table = inference_table(x.shape[1], gamma, beta, running, eps)
    _family(x).normalize(*_operands(x, y, epilogue), table, _flags(epilogue))
    return table


def backward(dy, context, dx, dresidual):
    """Gradients with respect to x, gamma, beta and the residual."""
    if dy.shape[0] * dy.shape[2] <= FEW:
        with np.errstate(all="ignore"):  # as the kernels do
            return reference.backward(dy, context, dx, dresidual)
    mode = 0 if context.training else FROZEN
    if context.relu:
        mode |= FROM_X if context.y is None else FROM_Y
    x = _writeable(context.x)
    y = x if context.y is None else context.y
    dresidual = dx if dresidual is None else dresidual
    dbeta, dgamma = _family(x).backward(_writeable(dy), x, y, dx, dresidual, context.table, mode)
    return dgamma, dbeta


def _family(x):
    return planes if x.shape[2] >= PLANES_FROM else rows


def _operands(x, y, epilogue):
    """x, residual and y for a kernel; x stands in where there is no residual, and is not read as one."""
    x = _writeable(x)
    return x, x if epilogue.residual is None else _writeable(epilogue.residual), y


def _flags(epilogue):
    return (0 if epilogue.residual is None else ADDS) | (CLIPS if epilogue.relu else 0)


def _writeable(array):
    """The same memory without its read-only mark, for which Numba would compile every kernel once more."""
    return array if array.flags.writeable else np.asarray(_Memory(array))


class _Memory:
    """A read-only array's memory, offered as writable; kernels do not write to their inputs."""

    def __init__(self, array):
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}
