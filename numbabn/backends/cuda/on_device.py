"""The public functions for arrays that live on a device: check, view, launch, give back arrays of the caller's kind.

Nothing here waits for the device: kernels are launched on the caller's stream. Checks and views work on metadata.
"""

import sys
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ... import checks, layout
from ...results import Context, Gradients, Statistics
from ..host import MEAN, VAR
from . import passes, toolkit
from .cut import launch_for
from .libraries import space_of
from .memory import DTYPES, Memory, Metadata, alignment, apart
from .strided import copy

PARAMETERS = "gamma", "beta", "running_mean", "running_var"
FORWARD_NAMES, BACKWARD_NAMES = ("x", *PARAMETERS, "residual", "out"), ("x", "y", "table", "dy")
"""What errors call the arrays of a call, in the order in which they are read."""


def statistics(x, axis):
    """``batch_stats``."""
    space = space_of(x)
    (x,) = space.read(["x"], [x])
    view = _view(x.metadata, checks.channel_axis(axis, len(x.shape)))
    x = _viewable(space, view, x)
    launch = _launch(space, view, True, 1, [x])
    table = space.give(passes.statistics(space, launch, x))
    return Statistics(table[MEAN], table[VAR], launch.values)


def forward(x, parameters, residual, out, settings, axis, *, keep):
    """``batch_norm_forward``, and ``batch_norm``, which does not ``keep`` what the context refers to."""
    space = space_of(x)
    memories = space.read(FORWARD_NAMES, (x, *parameters, residual, out))
    plan = _plan_of(settings, axis, keep, memories)
    x, *parameters, residual, out = memories
    view, y, packed = plan.view, out, parameters
    if not plan.evident or not _apart(plan, memories, keep):
        _check(x, parameters, residual, out, settings, view, keep)
        written = [out, *parameters[2:]] if settings.training else [out]
        x, residual = _viewable(space, view, x), _viewable(space, view, residual)
        packed = [_packed(space, value, written) for value in parameters]
        y = out if out is not None and view.fits(np.asarray(out)) else None
    y = space.empty_like(x, view.order) if y is None else y

    launch = _launch(space, view, settings.training, 1, [x, y] if residual is None else [x, y, residual])
    table = passes.forward(launch, settings, plan.flags)(space, x, residual, y, packed)
    if packed is not parameters and settings.training:
        for value, given in zip(packed[2:], parameters[2:], strict=True):
            if value is not given:
                copy(space, value, given)
    result = _deliver(space, y, out)
    if not keep:
        return result, None
    masked = settings.relu and residual is not None
    arrays = space.give(x), space.give(y) if masked else None, space.give(table)
    kept = settings.training, settings.relu, residual is not None, view, plan.dtypes, sys.modules[__name__]
    return result, Context(*arrays, *kept)


def backward(given, context, out):
    """``batch_norm_backward``."""
    space = space_of(context.x)
    x, y, table, dy = space.read(BACKWARD_NAMES, (context.x, context.y, context.table, given))
    view, masked = context.view, y is not None
    dx_out = dresidual_out = None
    if out is not None or dy.metadata != x.metadata:
        dx_out, dresidual_out = _check_gradients(space, x, y, dy, context, out)
    passed_on = _pass_on(space, view, given, dy, dresidual_out, dx_out) if context.has_residual and not masked else None
    dy = _viewable(space, view, dy)
    dx = _result(space, view, dx_out, x)
    dresidual = _result(space, view, dresidual_out, x) if masked else None

    launch = _launch(space, view, context.training, 2, [x, dy, dx, y, dresidual] if masked else [x, dy, dx])
    run = passes.backward(launch, passes.backward_flags(context))
    gradients = space.give(run(space, dy, x, y, table, dx, dresidual))
    dbeta, dgamma = (None if dtype is None else gradients[row] for row, dtype in enumerate(reversed(context.dtypes)))
    dresidual = _deliver(space, dresidual, dresidual_out) if masked else passed_on
    return Gradients(_deliver(space, dx, dx_out), dgamma, dbeta, dresidual)


class Plan(NamedTuple):
    """What forward calls on arrays of the same metadata have in common."""

    view: layout.View
    evident: bool
    """Whether nothing can be wrong with the arrays but that some share memory, and none needs a copy."""
    sizes: tuple
    """Bytes of each array that there is, in the order of FORWARD_NAMES; empty if none is written."""
    dtypes: tuple
    """NumPy's of gamma and beta, None where absent."""
    flags: int
    """What the pass is asked to do."""


def _plan_of(settings, axis, keep, memories):
    if type(axis) is not int:  # True is no axis, though it equals 1
        axis = checks.channel_axis(axis, len(memories[0].shape))
    return _plan(settings, axis, keep, *[memory and memory.metadata for memory in memories])


@lru_cache(maxsize=1024)
def _plan(settings, axis, keep, *given):
    """The plan for metadata of x, the parameters, residual and out, which are looked at once."""
    given = [one and Metadata(*one) for one in given]
    x, *parameters, residual, out = given
    view = _view(x, checks.channel_axis(axis, len(x.shape)))
    written = out or (settings.training and parameters[2])
    sizes = tuple(Memory(None, 0, one).nbytes for one in given if one and written)
    dtypes = tuple(one and DTYPES[one.dtype] for one in parameters[:2])
    flags = passes.forward_flags(settings, parameters, residual, keep=keep)
    return Plan(view, _evident(x, parameters, residual, out, settings, view), sizes, dtypes, flags)


@lru_cache(maxsize=1024)
def _view(metadata, axis):
    return layout.view(np.asarray(Memory(None, 0, metadata)), axis)


def _evident(x, parameters, residual, out, settings, view):
    """Whether ``checks`` would find nothing wrong with arrays of some metadata, and none needs a copy."""
    outer, channels, inner = view.canonical
    values = outer * inner
    if values < 2 or values <= settings.correction or channels == 0 or (x.strides is not None and view.order is None):
        return False
    number = "float64" if x.dtype == "float64" else "float32"
    if any(one is not None and one[:3] != ((channels,), None, number) for one in parameters):
        return False
    mean, var = parameters[2:]
    if (mean is None) != (var is None) or (mean is None and not settings.training):
        return False
    if any(one is not None and one[:3] != x[:3] for one in (residual, out)):
        return False
    written = [out, mean, var] if settings.training else [out]
    return not any(one is not None and one.readonly for one in written)


def _apart(plan, memories, keep):
    """Whether nothing that is written shares memory, but that ``out`` may be x, unless that is to keep, or residual."""
    if not plan.sizes:
        return True
    addresses, sizes = [memory.address for memory in memories if memory is not None], plan.sizes
    x, *_, residual, out = memories
    if out is not None and ((out.address == x.address and not keep) or (residual and out.address == residual.address)):
        addresses, sizes = addresses[:-1], sizes[:-1]
    return apart(addresses, sizes)


def _launch(space, view, training, inputs, memories):
    aligned = alignment([memory.address for memory in memories])
    return launch_for(view.canonical, memories[0].dtype, aligned, training, inputs, toolkit.card(space.device))


def _check(x, parameters, residual, out, settings, view, keep):
    """Look at a forward call's arrays as if they were NumPy's."""
    expected = "float64" if x.dtype == "float64" else "float32"
    for name, value in zip(PARAMETERS, parameters, strict=True):
        if value is not None and value.dtype != expected:
            beside = f"beside x of {x.dtype} on a CUDA device"
            raise TypeError(f"{name} has dtype {value.dtype}; expected {expected} {beside}")
    x, residual, out = map(_metadata, (x, residual, out))
    parameters = checks.parameters(tuple(map(_metadata, parameters)), view.canonical, settings)
    checks.outputs_apart(x, residual, out, parameters, settings, keep)


def _check_gradients(space, x, y, dy, context, out):
    """The same for those of a backward call; returns the memory of both outputs."""
    x, y = _metadata(x), _metadata(y)
    dy = checks.like("dy", _metadata(dy), "x", x)
    pair = space.read(checks.GRADIENTS, checks.gradient_pair(out, context))
    checks.gradient_outputs(tuple(map(_metadata, pair)), dy, x, y)
    return pair


def _metadata(memory):
    return None if memory is None else np.asarray(memory)


def _viewable(space, view, memory):
    """An array that the view fits: a copy if it does not."""
    if memory is None or (memory.strides is None and view.order is None) or view.fits(np.asarray(memory)):
        return memory
    return _copied(space, memory, view.order)


def _copied(space, memory, order=None):
    """A copy without gaps, whose axes are in this order in memory."""
    new = space.empty(memory.shape, memory.dtype, order)
    copy(space, memory, new)
    return new


def _packed(space, value, written):
    """Numbers for each channel side by side, which nothing overwrites before all blocks have read them: a copy if need
    be."""
    if value is None:
        return None
    others = [np.asarray(one) for one in written if one is not None and one is not value]
    if value.strides is None and not any(checks.overlap(one, np.asarray(value)) for one in others):
        return value
    return _copied(space, value)


def _result(space, view, out, like):
    """What a kernel writes: the caller's array where a view fits it, else a new one."""
    return out if out is not None and view.fits(np.asarray(out)) else space.empty_like(like, view.order)


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
    return space.give(_copied(space, dy, view.order))
