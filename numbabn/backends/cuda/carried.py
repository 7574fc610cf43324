"""NumPy arrays: carried to the device, where kernels run on Numba's default stream, and the results back."""

import numpy as np

from ...places import dtype_name
from .. import reference
from ..host import MEAN, VAR
from . import passes, toolkit
from .cut import launch_for
from .libraries import NUMBA, Space
from .memory import BYTES, new_memory

HALVES = True
"""Whether data may be float16 or bfloat16."""


def statistics(x):
    """Mean and biased variance of each channel."""
    space = _space()
    table = _numbers(passes.statistics(space, _launch(space, x, True, 1), _carry(x)))
    return table[MEAN], table[VAR]


def forward_training(x, y, parameters, residual, settings):
    """Normalise with the batch's own statistics; let them enter the running ones."""
    return _forward(x, y, parameters, residual, settings)


def forward_inference(x, y, parameters, residual, settings):
    """Normalise with the running statistics, which are constants here."""
    return _forward(x, y, parameters, residual, settings)


def backward(dy, context, dx, dresidual):
    """Gradients with respect to x, gamma, beta and the residual."""
    space = _space()
    launch = _launch(space, dy, context.training, 2)
    x, y = _carry(context.x), None if context.y is None else _carry(context.y)
    table = _carry(context.table.astype(launch.words.real))
    results = _result(dy), None if dresidual is None else _result(dy)
    run = passes.backward(launch, passes.backward_flags(context))
    given = run(space, _carry(dy), x, y, table, *results)
    for result, out in zip(results, (dx, dresidual), strict=True):
        if result is not None:
            _bring(result, out)
    dbeta, dgamma = _numbers(given)
    return dgamma, dbeta


def _forward(x, y, parameters, residual, settings):
    """Both forward passes."""
    space = _space()
    launch = _launch(space, x, settings.training, 1)
    dtype = launch.words.parameter
    given = [None if value is None else np.ascontiguousarray(value, dtype) for value in parameters]
    if settings.training:
        given[2:] = None, None  # they may have more digits than the device would leave them
    carried = tuple(None if value is None else _carry(value) for value in given)
    result = _result(x)
    residual = None if residual is None else _carry(residual)
    run = passes.forward(launch, settings, passes.forward_flags(settings, carried, residual, keep=True))
    table = _numbers(run(space, _carry(x), residual, result, carried))
    _bring(result, y)
    if settings.training:
        reference.update_running(parameters, table, settings, launch.values)
    return table


def _space():
    return Space(NUMBA, stream=0, device=toolkit.current_device())


def _launch(space, x, training, inputs):
    """How a call is launched. (Memory of Numba's begins at multiples of 256 bytes.)"""
    return launch_for(x.shape, dtype_name(x.dtype), BYTES, training, inputs, toolkit.card(space.device))


def _carry(array):
    """A copy of a contiguous array on the device; bfloat16, which is not Numba's, travels as integers."""
    dtype = dtype_name(array.dtype)
    owner = toolkit.upload(array.view(np.uint16) if dtype == "bfloat16" else array)
    return new_memory(owner, toolkit.interface(owner)["data"][0], array.shape, dtype)


def _result(x):
    """Memory for a result like ``x``."""
    dtype = dtype_name(x.dtype)
    owner = toolkit.device_array(x.shape, np.dtype(np.uint16) if dtype == "bfloat16" else x.dtype)
    return new_memory(owner, toolkit.interface(owner)["data"][0], x.shape, dtype)


def _bring(memory, out):
    """Copy back."""
    values = memory.owner.copy_to_host()
    out[...] = values.view(out.dtype) if memory.dtype == "bfloat16" else values


def _numbers(memory):
    """Numbers for each channel, as float64."""
    return memory.owner.copy_to_host().astype(np.float64)
