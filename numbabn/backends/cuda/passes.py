"""The launches of a pass, on memory of the device: one where blocks hold channels on chip. Else, where they are asked
for, sums over parts, what is settled from them, and the walk that writes.

All three functions take a ``Space``, which has the stream and new memory, a ``Launch`` and ``Memory``; they write
their outputs, and check nothing.
"""

from ...checks import Settings
from ..flags import ADDS, CLIPS, FILLS, FROM_X, FROM_Y, FROZEN, MEASURES, WRITES
from ..host import running_weights
from .counters import counters_for
from .moments import HAS_BETA, HAS_GAMMA, HAS_RUNNING, KEEPS

MEASURING = Settings(training=True, momentum=0.0, eps=0.0, correction=0.0, relu=False)
"""For statistics alone."""


def forward(space, launch, x, y, residual, parameters, settings, *, keep=True):
    """Write y, update running statistics in training, and return the table if it is to ``keep``."""
    flags = WRITES | (0 if residual is None else ADDS) | (CLIPS if settings.relu else 0) | (KEEPS if keep else 0)
    return _forward(space, launch, (x, x if residual is None else residual, y), parameters, settings, flags)


def statistics(space, launch, x):
    """The table, which has the batch's statistics alone."""
    return _forward(space, launch, (x, x, x), (None,) * 4, MEASURING, KEEPS)


def _forward(space, launch, data, parameters, settings, flags):
    """A forward pass, which writes ``data``'s last array if WRITES."""
    gamma, beta, running_mean, _ = parameters
    # kernels on chip do not write a table that nobody wants, and some parameter can stand in for it
    table = None if flags & KEEPS or not launch.shared_bytes else next(filter(None, parameters), None)
    table = table or space.empty((6, launch.channels), launch.words.real)
    flags |= (FILLS if flags & WRITES else 0) | (MEASURES if settings.training else 0)
    flags |= (0 if gamma is None else HAS_GAMMA) | (0 if beta is None else HAS_BETA)
    weights = 1.0, 0.0, 0.0
    if settings.training and running_mean is not None and launch.values and settings.momentum:
        flags |= HAS_RUNNING
        weights = running_weights(settings.momentum, settings.correction, launch.values)
    memory = [table if value is None else value for value in parameters]  # which flags say not to read
    if launch.shared_bytes:
        arrays = *data, table, *memory, *_for_teams(space, launch, 3, table)
        launch.walk(space, "forward_on_chip", arrays, settings.eps, *weights, flags)
        return table if flags & KEEPS else None
    parts = table
    if settings.training:
        parts = space.empty((3 * launch.count * launch.channels,), launch.words.real)
        launch.walk(space, "sum_parts", (data[0], parts, table))
    launch.settle(space, "settle", parts, launch.count, table, *memory, launch.channels, settings.eps, *weights, flags)
    if flags & WRITES:
        launch.walk(space, "normalize", (*data, table), flags)
    return table


def backward(space, launch, dy, x, y, table, context, dx, dresidual):
    """Write dx and, where ReLU followed a residual, dresidual; return dbeta and dgamma, one after the other."""
    flags = 0 if context.training else FROZEN
    if context.relu:
        flags |= FROM_X if y is None else FROM_Y
    inputs, outputs = (dy, x, x if y is None else y), (dx, dx if dresidual is None else dresidual)
    dbeta_dgamma = space.empty((2, launch.channels), launch.words.parameter)
    if launch.shared_bytes:
        parts, counters = _for_teams(space, launch, 2, table)
        launch.walk(space, "backward_on_chip", (*inputs, *outputs, table, dbeta_dgamma, parts, counters), flags)
        return dbeta_dgamma
    parts = space.empty((2 * launch.count * launch.channels,), launch.words.real)
    gradients = space.empty((2 * launch.channels,), launch.words.real)
    launch.walk(space, "sum_gradient_parts", (*inputs, parts, table), flags)
    launch.settle(space, "settle_gradients", parts, launch.count, table, gradients, dbeta_dgamma, launch.channels)
    launch.walk(space, "write_gradient", (*inputs, *outputs, table, gradients), flags)
    return dbeta_dgamma


def _for_teams(space, launch, sums, unused):
    """Memory for so many sums of each part, and counters of the blocks of each team; blocks alone need neither."""
    if launch.team == 1:
        return unused, unused
    parts = space.empty((sums * launch.count * launch.channels,), launch.words.real)
    return parts, counters_for(space, launch.blocks // launch.count)
