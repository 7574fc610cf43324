"""The launches of a pass: one where blocks hold channels on chip. Else, where they are asked for, sums over parts, what
is settled from them, and the walk that writes.

A pass is made once for a ``Launch`` and flags, and is then a function of a ``Space``, which has the stream and new
memory, and of ``Memory``. It writes its outputs, and checks nothing.
"""

from functools import lru_cache

from ...checks import Settings
from ..flags import ADDS, CLIPS, FILLS, FROM_X, FROM_Y, FROZEN, MEASURES, WRITES
from ..host import running_weights
from .counters import counters_for
from .moments import HAS_BETA, HAS_GAMMA, HAS_RUNNING, KEEPS

MEASURING = Settings(training=True, momentum=0.0, eps=0.0, correction=0.0, relu=False)
"""For statistics alone."""


def forward_flags(settings, parameters, residual, *, keep):
    """What a forward pass is asked to do; ``keep`` says that its table is wanted. Of arrays, only which there are
    counts."""
    gamma, beta, running_mean, _ = parameters
    flags = WRITES | FILLS | (MEASURES if settings.training else 0) | (CLIPS if settings.relu else 0)
    flags |= (0 if residual is None else ADDS) | (KEEPS if keep else 0)
    flags |= (0 if gamma is None else HAS_GAMMA) | (0 if beta is None else HAS_BETA)
    return flags | (HAS_RUNNING if settings.training and running_mean is not None and settings.momentum else 0)


def backward_flags(context):
    """What a backward pass is asked to do."""
    opened = (FROM_X if context.y is None else FROM_Y) if context.relu else 0
    return opened | (0 if context.training else FROZEN)


def statistics(space, launch, x):
    """The table, which has the batch's statistics alone."""
    return forward(launch, MEASURING, MEASURES | KEEPS)(space, x, None, x, (None,) * 4)


@lru_cache(maxsize=1024)
def forward(launch, settings, flags):
    """A function of a space, x, residual, y and parameters. It writes y, updates running statistics, and returns the
    table, or None if that is not kept and channels were held on chip."""
    weights = 1.0, 0.0, 0.0
    if not launch.values:  # an empty batch leaves running statistics alone
        flags &= ~HAS_RUNNING
    elif flags & HAS_RUNNING:
        weights = running_weights(settings.momentum, settings.correction, launch.values)
    shape, real, keeps = (6, launch.channels), launch.words.real, flags & KEEPS
    if launch.shared_bytes:
        write = launch.walker("forward_on_chip", settings.eps, *weights, flags)

        def on_chip(space, x, residual, y, parameters):
            # a table that nobody wants is not written, and some parameter can stand in for it
            table = (None if keeps else next(filter(None, parameters), None)) or space.empty(shape, real)
            numbers = [table if value is None else value for value in parameters]  # which flags say not to read
            write(space, x, residual or x, y, table, *numbers, *_for_teams(space, launch, 3, table))
            return table if keeps else None

        return on_chip

    measure = launch.walker("sum_parts")
    settle = launch.settler("settle", launch.count, launch.channels, settings.eps, *weights, flags)
    write = launch.walker("normalize", flags)

    def in_parts(space, x, residual, y, parameters):
        table = parts = space.empty(shape, real)  # parts that nobody reads
        if flags & MEASURES:
            parts = space.empty((3 * launch.count * launch.channels,), real)
            measure(space, x, parts, table)
        settle(space, parts, table, *[table if value is None else value for value in parameters])
        if flags & WRITES:
            write(space, x, residual or x, y, table)
        return table

    return in_parts


@lru_cache(maxsize=1024)
def backward(launch, flags):
    """A function of a space, dy, x, y, table, dx and dresidual. It writes dx and, where ReLU followed a residual,
    dresidual, and returns dbeta and dgamma, one after the other."""
    real, parameter = launch.words.real, launch.words.parameter
    if launch.shared_bytes:
        write = launch.walker("backward_on_chip", flags)

        def on_chip(space, dy, x, y, table, dx, dresidual):
            dbeta_dgamma = space.empty((2, launch.channels), parameter)
            teams = _for_teams(space, launch, 2, table)
            write(space, dy, x, y or x, dx, dresidual or dx, table, dbeta_dgamma, *teams)
            return dbeta_dgamma

        return on_chip

    measure = launch.walker("sum_gradient_parts", flags)
    settle = launch.settler("settle_gradients", launch.count, launch.channels)
    write = launch.walker("write_gradient", flags)

    def in_parts(space, dy, x, y, table, dx, dresidual):
        dbeta_dgamma = space.empty((2, launch.channels), parameter)
        parts = space.empty((2 * launch.count * launch.channels,), real)
        gradients = space.empty((2 * launch.channels,), real)
        measure(space, dy, x, y or x, parts, table)
        settle(space, parts, table, gradients, dbeta_dgamma)
        write(space, dy, x, y or x, dx, dresidual or dx, table, gradients)
        return dbeta_dgamma

    return in_parts


def _for_teams(space, launch, sums, unused):
    """Memory for so many sums of each part, and counters of the blocks of each team; blocks alone need neither."""
    if launch.team == 1:
        return unused, unused
    parts = space.empty((sums * launch.count * launch.channels,), launch.words.real)
    return parts, counters_for(space, launch.blocks // launch.count)
