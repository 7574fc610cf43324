"""The launches of a pass, on memory of the device: sums over parts, what is settled from them, the second walk.

All three functions take a ``Space``, which has the stream and new memory, a ``Launch`` and ``Memory``; outputs are
written, and checked is nothing.
"""

from ..flags import ADDS, CLIPS, FILLS, FROM_X, FROM_Y, FROZEN, MEASURES
from ..host import running_weights
from .launch import run, settling_blocks
from .moments import HAS_BETA, HAS_GAMMA, HAS_RUNNING, settle, settle_gradients

FORWARD = "dddn{}ii"
GRADIENTS = "dddnn{}ii"
WRITE = "dddddnn{}ii"
PARTS = "dnn{}i"
SETTLE = "ninppppiffffi"
SETTLE_GRADIENTS = "ninnpi"
"""Kinds of the kernels' arguments (see ``launch.run``), without those of the family's sizes."""


def forward(space, launch, x, y, residual, parameters, settings):
    """Write y, update running statistics in training, and return the table."""
    table = statistics(space, launch, x, parameters, settings, FILLS)
    flags = (0 if residual is None else ADDS) | (CLIPS if settings.relu else 0)
    data = x, x if residual is None else residual, y, table
    _walk(space, launch, "normalize", FORWARD, *data, *launch.sizes, launch.count, flags)
    return table


def statistics(space, launch, x, parameters, settings, fills=0):
    """The table: in training with the batch's statistics, which enter the running ones, else with these."""
    flags = fills | (MEASURES if settings.training else 0)
    parts = space.empty((3 * launch.count * launch.channels,), launch.words.real)
    table = space.empty((6, launch.channels), launch.words.real)
    if settings.training:
        _walk(space, launch, "sum_parts", PARTS, x, parts, table, *launch.sizes, launch.count)
    for value, flag in zip(parameters, (HAS_GAMMA, HAS_BETA, HAS_RUNNING, HAS_RUNNING), strict=True):
        flags |= 0 if value is None else flag
    weights = 1.0, 0.0, 0.0
    if launch.values and settings.momentum:
        weights = running_weights(settings.momentum, settings.correction, launch.values)
    elif settings.training:
        flags &= ~HAS_RUNNING
    memory = (parts if value is None else value for value in parameters)  # which flags say not to read
    arguments = parts, launch.count, table, *memory, launch.channels, settings.eps, *weights, flags
    _settle(space, launch, settle, SETTLE, arguments)
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
    shape = *launch.sizes, launch.count, flags
    _walk(space, launch, "sum_gradient_parts", GRADIENTS, *inputs, parts, table, *shape)
    _settle(
        space,
        launch,
        settle_gradients,
        SETTLE_GRADIENTS,
        (parts, launch.count, table, gradients, given, launch.channels),
    )
    outputs = dx, dx if dresidual is None else dresidual
    _walk(space, launch, "write_gradient", WRITE, *inputs, *outputs, table, gradients, *shape)
    return given


def _walk(space, launch, kernel, kinds, *arguments):
    """Launch one of the family's kernels; on no elements there is nothing to do."""
    if launch.blocks:
        kernel = getattr(launch.family, kernel)
        run(space, launch.words, kernel, launch.blocks, kinds.format(launch.family.SIZES), *arguments)


def _settle(space, launch, kernel, kinds, arguments):
    """Launch one of the kernels on numbers for each channel."""
    if launch.channels:
        run(space, launch.words, kernel, settling_blocks(launch), kinds, *arguments)
