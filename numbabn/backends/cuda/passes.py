"""The launches of a pass, on memory of the device: sums over parts, what is settled from them, the second walk.

All three functions take a ``Space``, which has the stream and new memory, a ``Launch`` and ``Memory``; outputs are
written, and checked is nothing.
"""

from ...checks import Settings
from ..flags import ADDS, CLIPS, FILLS, FROM_X, FROM_Y, FROZEN, MEASURES
from ..host import running_weights
from .moments import HAS_BETA, HAS_GAMMA, HAS_RUNNING

MEASURING = Settings(training=True, momentum=0.0, eps=0.0, correction=0.0, relu=False)
"""For statistics alone."""


def forward(space, launch, x, y, residual, parameters, settings):
    """Write y, update running statistics in training, and return the table."""
    table = statistics(space, launch, x, parameters, settings, FILLS)
    flags = (0 if residual is None else ADDS) | (CLIPS if settings.relu else 0)
    launch.walk(space, "normalize", (x, x if residual is None else residual, y, table), flags)
    return table


def statistics(space, launch, x, parameters, settings, fills=0):
    """The table: in training with the batch's statistics, which enter the running ones, else with these."""
    gamma, beta, running_mean, _ = parameters
    parts = table = space.empty((6, launch.channels), launch.words.real)
    flags = fills | (0 if gamma is None else HAS_GAMMA) | (0 if beta is None else HAS_BETA)
    weights = 1.0, 0.0, 0.0
    if settings.training:
        flags |= MEASURES
        parts = space.empty((3 * launch.count * launch.channels,), launch.words.real)
        launch.walk(space, "sum_parts", (x, parts, table))
        if running_mean is not None and launch.values and settings.momentum:
            flags |= HAS_RUNNING
            weights = running_weights(settings.momentum, settings.correction, launch.values)
    memory = (table if value is None else value for value in parameters)  # which flags say not to read
    launch.settle(space, "settle", parts, launch.count, table, *memory, launch.channels, settings.eps, *weights, flags)
    return table


def backward(space, launch, dy, x, y, table, context, dx, dresidual):
    """Write dx and, where ReLU followed a residual, dresidual; return dbeta and dgamma, one behind the other."""
    flags = 0 if context.training else FROZEN
    if context.relu:
        flags |= FROM_X if y is None else FROM_Y
    inputs = dy, x, x if y is None else y
    parts = space.empty((2 * launch.count * launch.channels,), launch.words.real)
    gradients = space.empty((2 * launch.channels,), launch.words.real)
    given = space.empty((2, launch.channels), launch.words.parameter)
    launch.walk(space, "sum_gradient_parts", (*inputs, parts, table), flags)
    launch.settle(space, "settle_gradients", parts, launch.count, table, gradients, given, launch.channels)
    outputs = dx, dx if dresidual is None else dresidual
    launch.walk(space, "write_gradient", (*inputs, *outputs, table, gradients), flags)
    return given
