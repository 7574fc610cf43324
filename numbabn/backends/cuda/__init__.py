"""Batch normalization on NVIDIA GPUs, in kernels of numba-cuda: the twin of ``cpu``.

Two families: ``planes`` where a channel's values lie in contiguous rows, ``rows`` where channels lie side by side. A
call is three launches: sums over parts of the channels, statistics (or gradients of the parameters) settled from them,
and the second walk. What is where, in the order of a call::

    launch, policy       the blocks of a shape, and the numbers that they are cut by
    toolkit              the import of numba-cuda; memory on the device
    planes, rows         the kernels that walk over data
    moments              sums of threads and parts put together; statistics
    constants, epilogue  numbers for each channel; what is fused
    simd                 vectors: loads, stores, arithmetic

NumPy arrays are carried to the device and back. Training on very few values per channel, whose gradients nearly cancel,
is left to the float64 reference.

So far these kernels have run in the simulator and have been compiled for sm_80 and sm_90, and not been on a card.
"""

import numpy as np

from ...checks import Settings
from .. import reference
from ..flags import ADDS, CLIPS, FILLS, FROM_X, FROM_Y, FROZEN, MEASURES, WRITES
from ..host import FEW, MEAN, VAR, running_weights, unfilled_table
from .launch import launch_for, run, settling_blocks
from .moments import HAS_BETA, HAS_GAMMA, HAS_RUNNING, settle, settle_gradients
from .toolkit import download, empty, upload

STATISTICS = Settings(training=True, momentum=0.0, eps=0.0, correction=0.0, relu=False)
"""For statistics alone."""


def statistics(x):
    """Mean and biased variance of each channel."""
    launch = launch_for(x.shape, x.dtype.name)
    table, _ = _settled(launch, upload(x), (None,) * 4, STATISTICS, MEASURES)
    return table[MEAN], table[VAR]


def forward_training(x, y, parameters, residual, settings):
    """Normalise with the batch's own statistics; let them enter the running ones."""
    if x.shape[0] * x.shape[2] <= FEW:
        with np.errstate(all="ignore"):  # as the kernels do
            return reference.forward_training(x, y, parameters, residual, settings)
    return _forward(x, y, parameters, residual, settings, MEASURES | WRITES | FILLS)


def forward_inference(x, y, parameters, residual, settings):
    """Normalise with the running statistics, which are constants here."""
    return _forward(x, y, parameters, residual, settings, WRITES | FILLS)


def backward(dy, context, dx, dresidual):
    """Gradients with respect to x, gamma, beta and the residual."""
    if context.training and dy.shape[0] * dy.shape[2] <= FEW:
        with np.errstate(all="ignore"):
            return reference.backward(dy, context, dx, dresidual)
    launch = launch_for(dy.shape, dy.dtype.name)
    family, sizes = launch.family, (*launch.sizes, launch.count)
    flags = 0 if context.training else FROZEN
    if context.relu:
        flags |= FROM_X if context.y is None else FROM_Y
    inputs = upload(dy), upload(context.x), upload(context.x if context.y is None else context.y)
    outputs = empty(dy.size, dy.dtype), empty(dy.size if flags & FROM_Y else launch.lanes, dy.dtype)
    table = upload(context.table.astype(launch.real))
    parts = empty(2 * launch.count * launch.channels, launch.real)
    gradients = empty(2 * launch.channels, launch.real)
    kinds = family.SIZES + "ii"
    run(launch, family.sum_gradient_parts, launch.blocks, "dddnn" + kinds, *inputs, parts, table, *sizes, flags)
    settled = parts, launch.count, table, gradients, launch.channels
    run(launch, settle_gradients, settling_blocks(launch), "ninni", *settled)
    written = *inputs, *outputs, table, gradients
    run(launch, family.write_gradient, launch.blocks, "dddddnn" + kinds, *written, *sizes, flags)
    download(outputs[0], dx)
    if dresidual is not None:
        download(outputs[1], dresidual)
    dbeta, dgamma = download(gradients, np.empty((2, launch.channels)))
    return dgamma, dbeta


def _forward(x, y, parameters, residual, settings, flags):
    """Both forward passes: the table on the host."""
    launch = launch_for(x.shape, x.dtype.name)
    family, sizes = launch.family, (*launch.sizes, launch.count)
    flags |= (ADDS if residual is not None else 0) | (CLIPS if settings.relu else 0)
    device_x, device_y = upload(x), empty(x.size, x.dtype)
    device_residual = device_x if residual is None else upload(residual)
    table, device_table = _settled(launch, device_x, parameters, settings, flags)
    data = device_x, device_residual, device_y, device_table
    run(launch, family.normalize, launch.blocks, "dddn" + family.SIZES + "ii", *data, *sizes, flags)
    download(device_y, y)
    return table


def _settled(launch, x, parameters, settings, flags):
    """The table, on the host and on the device; in training, running statistics are updated."""
    family, channels = launch.family, launch.channels
    parts = empty(3 * launch.count * channels, launch.real)
    on_host = unfilled_table(channels)
    table = empty(on_host.size, launch.real)
    if flags & MEASURES:
        arguments = x, parts, table, *launch.sizes, launch.count
        run(launch, family.sum_parts, launch.blocks, "dnn" + family.SIZES + "i", *arguments)
    given = [None if value is None else upload(np.asarray(value, launch.real)) for value in parameters]
    for value, flag in zip(given, (HAS_GAMMA, HAS_BETA, HAS_RUNNING, HAS_RUNNING), strict=True):
        flags |= 0 if value is None else flag
    weights = running_weights(settings.momentum, settings.correction, launch.values)
    memory = [parts if value is None else value for value in given]  # which flags say not to read
    arguments = parts, launch.count, table, *memory, channels, settings.eps, *weights, flags
    run(launch, settle, settling_blocks(launch), "ninnnnniffffi", *arguments)
    if flags & MEASURES and flags & HAS_RUNNING and settings.momentum:
        for value, out in zip(given[2:], parameters[2:], strict=True):
            download(value, out)
    return download(table, on_host), table
