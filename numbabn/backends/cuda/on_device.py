"""The public functions for arrays that live on a device: check, view, launch, give back arrays of the caller's kind.

Nothing here waits for the device: kernels are launched on the caller's stream. Checks and views work on metadata.
"""

import sys

import numpy as np

from ... import checks, layout
from ...places import dtype_name
from ...results import Context, Gradients, Statistics
from ..host import MEAN, VAR
from . import passes
from .carried import MEASURING
from .launch import launch_for
from .libraries import space_of
from .memory import memory_of
from .strided import copy

PARAMETERS = "gamma", "beta", "running_mean", "running_var"


def statistics(x, axis):
    """``batch_stats``."""
    space, x = space_of("x", x)
    view = layout.view(x, checks.channel_axis(axis, x.ndim))
    x = _viewable(space, view, x)
    launch = _launch(view, True, x)
    table = space.give(passes.statistics(space, launch, memory_of(x), (None,) * 4, MEASURING))
    return Statistics(table[MEAN], table[VAR], launch.values)


def forward(x, parameters, residual, out, settings, axis, *, keep):
    """``batch_norm_forward``, and ``batch_norm``, which does not ``keep`` what the context refers to."""
    space, x = space_of("x", x)
    residual, out = space.array("residual", residual), space.array("out", out)
    parameters = tuple(map(space.array, PARAMETERS, parameters))
    view = layout.view(x, checks.channel_axis(axis, x.ndim))
    parameters = checks.parameters(parameters, view.canonical, settings)
    _check_dtypes(parameters, x)
    residual = checks.outputs_apart(x, residual, out, parameters, settings, keep)

    x, residual = _viewable(space, view, x), _viewable(space, view, residual)
    y = _result(space, view, out, x)
    packed = tuple(_contiguous(space, value) for value in parameters)
    launch = _launch(view, settings.training, x, residual, y)
    x_y_residual = _memory(x), _memory(y), _memory(residual)
    table = passes.forward(space, launch, *x_y_residual, tuple(map(_memory, packed)), settings)
    if settings.training:
        for value, given in zip(packed[2:], parameters[2:], strict=True):
            if value is not given:
                copy(space, value, given)
    result = _deliver(space, y, out)
    if not keep:
        return result, None
    masked = settings.relu and residual is not None
    arrays = space.give(_memory(x)), space.give(_memory(y)) if masked else None, space.give(table)
    dtypes = tuple(None if value is None else value.dtype for value in parameters[:2])
    context = Context(
        *arrays, settings.training, settings.relu, residual is not None, view, dtypes, sys.modules[__name__]
    )
    return result, context


def backward(given, context, out):
    """``batch_norm_backward``."""
    space, x = space_of("x", context.x)
    y, table = space.array("the forward result", context.y), space.array("the table", context.table)
    dy = checks.like("dy", space.array("dy", given), "x", x)
    pair = map(space.array, checks.GRADIENTS, checks.gradient_pair(out, context))
    dx_out, dresidual_out = checks.gradient_outputs(tuple(pair), dy, x, y)

    view, masked = context.view, y is not None
    dx = _result(space, view, dx_out, x)
    dresidual = _result(space, view, dresidual_out, x) if masked else None
    passed_on = _pass_on(space, view, given, dy, dresidual_out, dx_out) if context.has_residual and not masked else None
    dy = _viewable(space, view, dy)
    launch = _launch(view, context.training, x, dy, y, dx, dresidual)
    memory = tuple(map(_memory, (dy, x, y, table)))
    gradients = space.give(passes.backward(space, launch, *memory, context, _memory(dx), _memory(dresidual)))
    dbeta, dgamma = (None if dtype is None else gradients[row] for row, dtype in enumerate(reversed(context.dtypes)))
    dresidual = _deliver(space, dresidual, dresidual_out) if masked else passed_on
    return Gradients(_deliver(space, dx, dx_out), dgamma, dbeta, dresidual)


def _check_dtypes(parameters, x):
    """Kernels read parameters as float32, or float64 beside data of float64."""
    expected = np.float64 if x.dtype == np.float64 else np.float32
    for name, value in zip(PARAMETERS, parameters, strict=True):
        if value is not None and value.dtype != expected:
            beside = f"beside x of {dtype_name(x.dtype)} on a CUDA device"
            raise TypeError(f"{name} has dtype {value.dtype}; expected {np.dtype(expected)} {beside}")


def _memory(array):
    return None if array is None else memory_of(array)


def _launch(view, training, *arrays):
    memory = [memory_of(array) for array in arrays if array is not None]
    return launch_for(view.canonical, memory[0].dtype, min(one.alignment for one in memory), training)


def _new(space, view, like):
    """Memory for a result of the caller's kind, in the order of the view."""
    return np.asarray(space.empty(view.shape, memory_of(like).dtype, view.order))


def _viewable(space, view, array):
    """An array that the view fits: a copy if it does not."""
    if array is None or view.fits(array):
        return array
    new = _new(space, view, array)
    copy(space, array, new)
    return new


def _contiguous(space, value):
    """Numbers for each channel side by side: a copy if they are not."""
    if value is None or value.flags.c_contiguous:
        return value
    new = np.asarray(space.empty(value.shape, memory_of(value).dtype))
    copy(space, value, new)
    return new


def _result(space, view, out, like):
    """What a kernel writes: the caller's array where a view fits it, else a new one."""
    return out if out is not None and view.fits(out) else _new(space, view, like)


def _deliver(space, result, out):
    """The caller's array, once the result is in it, or the new one."""
    if out is None:
        return space.give(memory_of(result))
    if result is not out:
        copy(space, result, out)
    return memory_of(out).owner


def _pass_on(space, view, given, dy, dresidual_out, dx_out):
    """``dresidual`` where no activation is fused: ``dy``, copied if wanted elsewhere or about to be overwritten."""
    if dresidual_out is not None:
        copy(space, dy, dresidual_out)
        return memory_of(dresidual_out).owner
    if dx_out is None or not checks.overlap(dx_out, dy):
        return given
    new = _new(space, view, dy)
    copy(space, dy, new)
    return space.give(memory_of(new))
