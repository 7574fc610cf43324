"""What a call may be given. Every check runs before anything is written, and each error names the argument at fault."""

import functools
from math import inf
from numbers import Real
from typing import NamedTuple

import numpy as np

from .places import dtype_name, where

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
HALVES = ("float16", "bfloat16")
"""Names of further dtypes of data, where a backend takes them; parameters and statistics are then float32."""


class Settings(NamedTuple):
    """The arguments of a forward call that are no arrays, as far as the computation depends on them, checked."""

    training: bool
    momentum: float
    eps: float
    correction: float
    relu: bool


def settings(*given):
    """``training``, ``momentum``, ``eps``, ``correction`` and ``activation``, checked.

    Remembered: checking takes a twentieth of a small call.
    """
    try:
        return _check_settings_once(*given)
    except TypeError:  # some cannot be hashed, and there is an error that says so better
        pass
    return _check_settings(*given)


def _check_settings(training, momentum, eps, correction, activation):
    """The settings, their numbers as Python's own."""
    if not isinstance(training, (bool, np.bool_)):
        raise TypeError(f"training is {training!r}; expected True or False")
    if activation is not None and not (isinstance(activation, str) and activation == "relu"):
        raise ValueError(f"activation is {activation!r}; expected None or 'relu'")
    return Settings(
        bool(training),
        number("momentum", momentum, 0.0, 1.0),
        number("eps", eps, 0.0, inf),
        number("correction", correction, 0.0, inf),
        activation == "relu",
    )


_check_settings_once = functools.lru_cache(maxsize=256, typed=True)(_check_settings)


def parameters(given, canonical, settings):
    """``(gamma, beta, running_mean, running_var)``, each an array or None; what training updates is what was given."""
    gamma, beta, running_mean, running_var = given
    outer, channels, inner = canonical
    training = settings.training
    if training and outer * channels * inner:
        counts(outer * inner, settings.correction)
    gamma, beta = per_channel("gamma", gamma, channels), per_channel("beta", beta, channels)
    if running_mean is None and running_var is None and training:
        return gamma, beta, None, None
    mean = _running_statistic("running_mean", running_mean, running_var, channels, training)
    var = _running_statistic("running_var", running_var, running_mean, channels, training)
    return gamma, beta, mean, var


def outputs_apart(x, residual, out, parameters, settings, keep):
    """``residual`` as an array or None, once nothing that is written is found to overlap what is still to be read."""
    running_mean, running_var = parameters[2:] if settings.training else (None, None)
    if residual is not None:
        residual = like("residual", residual, "x", x)
    if out is not None:
        output("out", out, "x", x)
    if _apart(x, residual, out, running_mean, running_var):
        return residual
    if out is not None:
        no_overlap("out", out, "x", x, unless_same=not keep)
        if residual is not None:
            no_overlap("out", out, "residual", residual, unless_same=True)
    if running_mean is not None:
        no_overlap("running_mean", running_mean, "running_var", running_var, unless_same=False)
        for name, other in (("x", x), ("out", out), ("residual", residual)):
            if other is not None:
                no_overlap("running_mean", running_mean, name, other, unless_same=False)
                no_overlap("running_var", running_var, name, other, unless_same=False)
    return residual


def _apart(*arrays):
    """Whether every array's memory has an owner of its own, so that none overlap. False where that takes a closer look.

    NumPy's own check takes a microsecond for each pair.
    """
    owners = set()
    for array in arrays:
        if array is not None:
            owner = array if array.base is None else array.base
            if id(owner) in owners or type(owner) is not np.ndarray or not owner.flags.owndata:
                return False
            owners.add(id(owner))
    return True


def gradient_pair(out, context):
    """``out`` as a pair, for dx and dresidual, of what was given for each."""
    pair = out if isinstance(out, tuple) else (out, None)
    if len(pair) != 2:
        raise ValueError(f"out has {len(pair)} arrays; expected one, or a pair (dx, dresidual)")
    if pair[1] is not None and not context.has_residual:
        raise ValueError("out has an array for dresidual, but the forward call had no residual")
    return pair


GRADIENTS = "out for dx", "out for dresidual"


def gradient_outputs(pair, dy, x, y):
    """Such a pair, once it is found fit to be written while the three others are read."""
    outputs = [(name, value) for name, value in zip(GRADIENTS, pair, strict=True) if value is not None]
    for name, value in outputs:
        output(name, value, "x", x)
    if not outputs or _apart(x, y, dy, *pair):
        return pair
    for name, value in outputs:
        no_overlap(name, value, "dy", dy, unless_same=True)
        no_overlap(name, value, "x", x, unless_same=False)
        if y is not None:
            no_overlap(name, value, "the forward result", y, unless_same=False)
    if pair[0] is not None and pair[1] is not None:
        no_overlap("out for dx", pair[0], "out for dresidual", pair[1], unless_same=False)
    return pair


def data_array(name: str, value, *, halves=False) -> np.ndarray:
    """``value`` as a NumPy array of floats (with ``halves``, of short ones too), without a copy where it is one."""
    array = as_array(name, value)
    dtype = array.dtype
    if dtype in FLOATS or (halves and dtype.isnative and dtype_name(dtype) in HALVES):
        return array
    expected = f"{', '.join(HALVES)}, float32 or float64" if halves else "float32 or float64"
    if not isinstance(value, np.ndarray) and dtype.kind not in "biufc":
        raise TypeError(f"{name} is {type(value).__name__}; expected an array of {expected}")
    order = "" if dtype.isnative else " in native byte order"
    raise TypeError(f"{name} has dtype {dtype}; expected {expected}{order}")


def as_array(name: str, value) -> np.ndarray:
    """``value`` as a NumPy array of whatever it is made of."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; expected a plain one (the mask would be ignored)")
    if where(value) == "cuda":
        raise TypeError(f"{name} lives on a CUDA device, but x does not; expected both in one place")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} cannot be made an array: {error}") from None


def like(name: str, value, reference_name: str, reference: np.ndarray) -> np.ndarray:
    """``value`` as an array of the reference's shape and dtype."""
    value = as_array(name, value)
    if value.shape != reference.shape:
        raise ValueError(f"{name} has shape {value.shape}; expected {reference_name}'s, {reference.shape}")
    if value.dtype != reference.dtype:
        expected = f"{reference_name}'s, {dtype_name(reference.dtype)}"
        raise TypeError(f"{name} has dtype {dtype_name(value.dtype)}; expected {expected}")
    return value


def output(name: str, value, reference_name: str, reference: np.ndarray) -> np.ndarray:
    """An array to write results to."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is {type(value).__name__}; expected a NumPy array to write to")
    like(name, value, reference_name, reference)
    return writeable(name, value)


def writeable(name: str, value: np.ndarray) -> np.ndarray:
    """An array that can be written, each element in a place of its own."""
    flags = value.flags
    if flags.carray:  # contiguous, aligned and writeable
        return value
    if not flags.writeable:
        raise ValueError(f"{name} is read-only; expected an array that can be written")
    if not flags.c_contiguous and _overlaps_itself(value):
        raise ValueError(f"{name} is an array whose elements share memory; expected a place of its own for each")
    return value


def _overlaps_itself(array: np.ndarray) -> bool:
    """Whether elements may share memory: from the innermost axis out, a step must be past all that is inside it."""
    extent = array.itemsize
    for step, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1 and step < extent:
            return array.size > 0
        extent += step * (size - 1)
    return False


def same_place(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays of one shape and dtype are element for element the same memory."""
    if a is b:
        return True
    steps = [(p, q) for p, q, size in zip(a.strides, b.strides, a.shape, strict=True) if size > 1]
    return a.ctypes.data == b.ctypes.data and all(p == q for p, q in steps)


def overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays share any memory."""
    return np.may_share_memory(a, b) and np.shares_memory(a, b)


def no_overlap(name: str, value: np.ndarray, other_name: str, other: np.ndarray, *, unless_same: bool) -> None:
    """Refuse outputs that would overwrite what is still to be read."""
    if not overlap(value, other) or (unless_same and same_place(value, other)):
        return
    expected = f"either {other_name} itself or memory of its own" if unless_same else "memory of its own"
    raise ValueError(f"{name} overlaps {other_name}; expected {expected}")


def channel_axis(axis, ndim: int) -> int:
    """``axis`` counted from the front."""
    if type(axis) is int and 0 <= axis < ndim:
        return axis
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise TypeError(f"axis is {axis!r}; expected an integer")
    if ndim == 0:
        raise ValueError("x has no dimensions; expected at least one, for the channels")
    if not -ndim <= axis < ndim:
        dimensions = "1 dimension" if ndim == 1 else f"{ndim} dimensions"
        raise ValueError(f"axis is {axis}, but x has {dimensions}; expected {-ndim} to {ndim - 1}")
    return int(axis) % ndim


def per_channel(name: str, value, channels: int):
    """A parameter or running statistic: one floating value for each channel, or None."""
    if value is None or (type(value) is np.ndarray and value.shape == (channels,) and value.dtype in FLOATS):
        return value
    value = data_array(name, value)
    if value.shape != (channels,):
        raise ValueError(
            f"{name} has shape {value.shape}; expected ({channels},), one value per channel of x: these are on axis 1 "
            f"unless axis= says else"
        )
    return value


def _running_statistic(name, value, other, channels, training):
    """Both are given or neither; in training, they are arrays that can be updated in place."""
    if value is None:
        given = "running_mean and running_var are None" if other is None else f"{name} is None"
        expected = "both or neither" if training else "both, or training=True for the batch's own statistics"
        raise ValueError(f"{given}; expected {expected}")
    checked = per_channel(name, value, channels)
    if not training:
        return checked
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is {type(value).__name__}; expected a NumPy array, to be updated in place")
    return writeable(name, checked)


def number(name: str, value, low: float, high: float) -> float:
    """A real number in ``[low, high]``; NaN is in no interval."""
    if type(value) not in (float, int) and (isinstance(value, bool) or not isinstance(value, Real)):
        raise TypeError(f"{name} is {value!r}; expected a number")
    if not (low <= value <= high and abs(value) != inf):
        interval = f"at least {low:g}, finite" if high == inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{name} is {value!r}; expected a number {interval}")
    return float(value)


def counts(count: int, correction: float) -> None:
    """A training batch must have more values per channel than it takes to have a variance."""
    if count == 1:
        raise ValueError("x has one value per channel, which has no variance; expected two or more when training=True")
    if correction >= count:
        raise ValueError(f"correction is {correction:g}; expected less than the {count} values that x has per channel")
