"""The public functions for arrays that live on a device: check, view, launch, give back arrays of the caller's kind.

Nothing here waits for the device: kernels are launched on the caller's stream. Checks and views work on metadata.
"""

import sys
from functools import lru_cache

import numpy as np

from ... import checks, layout
from ...places import dtype_name
from ...results import Context, Gradients, Statistics
from ..host import MEAN, VAR
from . import passes, toolkit
from .cut import launch_for
from .libraries import space_of
from .memory import Memory, apart
from .strided import copy

PARAMETERS = "gamma", "beta", "running_mean", "running_var"


def statistics(x, axis):
    """``batch_stats``."""
    space, x = space_of("x", x)
    view = _view(x.shape, x.strides, x.dtype, checks.channel_axis(axis, len(x.shape)))
    x = _viewable(space, view, x)
    launch = _launch(space, view, True, 1, x)
    table = space.give(passes.statistics(space, launch, x))
    return Statistics(table[MEAN], table[VAR], launch.values)


def forward(x, parameters, residual, out, settings, axis, *, keep):
    """``batch_norm_forward``, and ``batch_norm``, which does not ``keep`` what the context refers to."""
    space, x = space_of("x", x)
    residual, out = space.read("residual", residual), space.read("out", out)
    gamma, beta, mean, var = parameters = tuple(map(space.read, PARAMETERS, parameters))
    view = _view(x.shape, x.strides, x.dtype, checks.channel_axis(axis, len(x.shape)))
    y, packed = out, parameters
    if not _evident(x, parameters, residual, out, settings, view):
        _check(x, parameters, residual, out, settings, view, keep)
        x, residual = _viewable(space, view, x), _viewable(space, view, residual)
        packed = tuple(_contiguous(space, value) for value in parameters)
        y = out if out is not None and view.fits(np.asarray(out)) else None
    y = _new(space, view, x) if y is None else y

    launch = _launch(space, view, settings.training, 1, x, y, x if residual is None else residual)
    table = passes.forward(space, launch, x, y, residual, packed, settings)
    if settings.training:
        for value, given in zip(packed[2:], (mean, var), strict=True):
            if value is not given:
                copy(space, value, given)
    result = _deliver(space, y, out)
    if not keep:
        return result, None
    masked = settings.relu and residual is not None
    arrays = space.give(x), space.give(y) if masked else None, space.give(table)
    dtypes = tuple(None if value is None else np.dtype(value.dtype) for value in (gamma, beta))
    kept = settings.training, settings.relu, residual is not None, view, dtypes, sys.modules[__name__]
    return result, Context(*arrays, *kept)


def backward(given, context, out):
    """``batch_norm_backward``."""
    space, x = space_of("x", context.x)
    y, table, dy = (space.read(*pair) for pair in (("y", context.y), ("table", context.table), ("dy", given)))
    view, masked = context.view, y is not None
    dx_out = dresidual_out = None
    if out is not None or (dy.shape, dy.dtype, dy.strides) != (x.shape, x.dtype, x.strides):
        dx_out, dresidual_out = _check_gradients(space, x, y, dy, context, out)
    passed_on = _pass_on(space, view, given, dy, dresidual_out, dx_out) if context.has_residual and not masked else None
    dy = _viewable(space, view, dy)
    dx = _result(space, view, dx_out, x)
    dresidual = _result(space, view, dresidual_out, x) if masked else None

    memories = (memory for memory in (x, y, dy, dx, dresidual) if memory is not None)
    launch = _launch(space, view, context.training, 2, *memories)
    gradients = space.give(passes.backward(space, launch, dy, x, y, table, context, dx, dresidual))
    dbeta, dgamma = (None if dtype is None else gradients[row] for row, dtype in enumerate(reversed(context.dtypes)))
    dresidual = _deliver(space, dresidual, dresidual_out) if masked else passed_on
    return Gradients(_deliver(space, dx, dx_out), dgamma, dbeta, dresidual)


@lru_cache(maxsize=1024)
def _view(shape, strides, dtype, axis):
    return layout.view(np.asarray(Memory(None, 0, shape, strides, dtype)), axis)


def _launch(space, view, training, inputs, *memories):
    alignment = min(memory.alignment for memory in memories)
    return launch_for(view.canonical, memories[0].dtype, alignment, training, inputs, toolkit.card(space.device))


def _evident(x, parameters, residual, out, settings, view):
    """Whether nothing can be wrong with a forward call's arrays, and none needs a copy. Else a closer look tells.

    NumPy's metadata of an array, which ``checks`` asks for, take 1.3 us, and whether two of them overlap takes 0.9.
    """
    outer, channels, inner = view.canonical
    values, dtype = outer * inner, "float64" if x.dtype == "float64" else "float32"
    if values < 2 or values <= settings.correction or channels == 0:
        return False
    for value in parameters:
        if value is not None and (value.shape != (channels,) or value.dtype != dtype or value.strides is not None):
            return False
    *_, mean, var = parameters
    if (mean is None) != (var is None) or (mean is None and not settings.training):
        return False
    data = [one for one in (residual, out) if one is not None]
    for one in data:
        if one.shape != x.shape or one.dtype != x.dtype or one.strides != x.strides:
            return False
    if x.strides is not None and view.order is None:
        return False
    running = [mean, var] if settings.training and mean is not None else []
    if any(one.readonly for one in running) or (out is not None and out.readonly):
        return False
    return not (out or running) or apart([x, *data, *running])


def _check(x, parameters, residual, out, settings, view, keep):
    """Look at a forward call's arrays as if they were NumPy's."""
    x, residual, out = map(_metadata, (x, residual, out))
    parameters = checks.parameters(tuple(map(_metadata, parameters)), view.canonical, settings)
    expected = np.float64 if x.dtype == np.float64 else np.float32
    for name, value in zip(PARAMETERS, parameters, strict=True):
        if value is not None and value.dtype != expected:
            beside = f"beside x of {dtype_name(x.dtype)} on a CUDA device"
            raise TypeError(f"{name} has dtype {value.dtype}; expected {np.dtype(expected)} {beside}")
    checks.outputs_apart(x, residual, out, parameters, settings, keep)


def _check_gradients(space, x, y, dy, context, out):
    """The same for those of a backward call; returns the memory of both outputs."""
    x, y = _metadata(x), _metadata(y)
    dy = checks.like("dy", _metadata(dy), "x", x)
    pair = tuple(map(space.read, checks.GRADIENTS, checks.gradient_pair(out, context)))
    checks.gradient_outputs(tuple(map(_metadata, pair)), dy, x, y)
    return pair


def _metadata(memory):
    return None if memory is None else np.asarray(memory)


def _new(space, view, like):
    """Memory for a result of the caller's kind, in the order of the view."""
    return space.empty(view.shape, like.dtype, view.order)


def _viewable(space, view, memory):
    """An array that the view fits: a copy if it does not."""
    if memory is None or (memory.strides is None and view.order is None) or view.fits(np.asarray(memory)):
        return memory
    new = _new(space, view, memory)
    copy(space, memory, new)
    return new


def _contiguous(space, value):
    """Numbers for each channel side by side: a copy if they are not."""
    if value is None or value.strides is None:
        return value
    new = space.empty(value.shape, value.dtype)
    copy(space, value, new)
    return new


def _result(space, view, out, like):
    """What a kernel writes: the caller's array where a view fits it, else a new one."""
    return out if out is not None and view.fits(np.asarray(out)) else _new(space, view, like)


def _deliver(space, result, out):
    """The caller's array, once the result is in it, or the new one."""
    if out is None:
        return space.give(result)
    if result is not out:
        copy(space, result, out)
    return out.owner


def _pass_on(space, view, given, dy, dresidual_out, dx_out):
    """``dresidual`` where no activation is fused: ``dy``, copied if wanted elsewhere or about to be overwritten."""
    if dresidual_out is not None:
        copy(space, dy, dresidual_out)
        return dresidual_out.owner
    if dx_out is None or not checks.overlap(np.asarray(dx_out), np.asarray(dy)):
        return given
    new = _new(space, view, dy)
    copy(space, dy, new)
    return space.give(new)
