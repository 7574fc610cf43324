"""``numbabn bench --device cuda``: numbabn beside PyTorch's ways to batch norm, on one card and in one process.

Times are those between CUDA events, while the card has calls enough in its queue; what the host takes to queue one is
told beside them. Buffers are rotated, so that no call finds its data in the L2 cache, or leaves its results there.
Without PyTorch, CuPy makes the arrays; then only the copy and numbabn's own kernels, cut in other ways, stand beside
it.
"""

from dataclasses import asdict
from math import ceil, prod
from statistics import median

import numpy as np

import numbabn as nbn

from .card_systems import EPS, Numbabn, Operands, System
from .measure import Cell, Effort, moved, summary

ROTATED = 1 << 28
"""Bytes of all buffers together, unless these were more than MOST_SETS times those of a call: several times the L2
cache of any card so far (60 MB on an H200)."""

MOST_SETS = 64
WARM_UPS = 3

SPARE = 3
"""Times that the card waits as long as the host is likely to take for what it queues meanwhile."""

QUEUED = 64
"""Calls that are queued at a time, each of a few launches: where a card's queue is full, the host has to wait."""

LIMITS = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}
"""Largest error of a result that is timed: its Euclidean norm in units of the result's."""


def version_of(system, arrays) -> str:
    """What is told of a system in a report."""
    return nbn.__version__ if isinstance(system, Numbabn) else arrays.library


def measure(cell: Cell, arrays, systems: dict, dtype: str, effort: Effort) -> dict:
    """Measure one cell: as ``measure.measure``, whose results have the same form, but for ``host`` beside each median:
    the median of the seconds that the host takes to queue a call.

    Parameters
    ----------
    cell : Cell
    arrays : WithTorch or WithCuPy
    systems : dict
        By name; numbabn first.
    dtype : {"float32", "float64", "float16", "bfloat16"}
    effort : Effort
    """
    size = sum(moved(cell.what, cell.fused)) * prod(cell.shape) * (2 if "16" in dtype else np.dtype(dtype).itemsize)
    sets = [_operands(cell, arrays, dtype) for _ in range(min(MOST_SETS, ceil(ROTATED / size)))]
    expected = _expected(cell, arrays, sets[0], 10 * LIMITS[dtype])
    calls, notes = {}, {}
    for name, system in systems.items():
        try:
            with system.chosen():
                calls[name] = [system.call(cell, given) for given in sets]
                _check(arrays, calls[name][0](), expected, LIMITS[dtype])
        except Exception as error:  # of a peer: whatever keeps it from a right result is told in the table
            if name == next(iter(systems)):
                raise
            notes[name] = (
                f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
            )
    pairs = [[arrays.normal((size // 2 // 4,), "float32") for _ in range(2)] for _ in sets]
    calls["limit_copy"] = [lambda pair=pair: arrays.copy(*pair) for pair in pairs]
    measured = {**systems, "limit_copy": System()}
    samples = {name: ([], []) for name in calls if name not in notes}
    for number in range(effort.rounds):
        order = [*samples][number % len(samples) :] + [*samples][: number % len(samples)]
        for name in order:
            with measured[name].chosen():
                turn = _turn(arrays, calls[name], effort.of_round(number))
            for all_times, times in zip(samples[name], turn, strict=True):
                all_times += times
    found = {name: {**summary(card, size), "host": median(host)} for name, (card, host) in samples.items()}
    limit = {"kind": "limit_copy", **found["limit_copy"]}
    times = {name: {"note": notes[name]} if name in notes else found[name] for name in systems}
    return {**asdict(cell), "bytes": size, "limit": limit, "times": times}


def _turn(arrays, calls, asked):
    """Seconds of some calls, on one set of buffers after the other: the card's, and the host's."""
    warm_ups = [calls[number % len(calls)] for number in range(max(WARM_UPS, len(calls)))]
    card, host = arrays.times(warm_ups, 0, len(calls))
    each = median(card)
    count = asked.get("calls") or max(len(calls), min(1000, ceil(asked["seconds"] / each)))
    found = [], []
    for first in range(0, count, QUEUED):
        some = [calls[number % len(calls)] for number in range(first, min(first + QUEUED, count))]
        for kept, times in zip(found, arrays.times(some, SPARE * len(some) * median(host), len(calls)), strict=True):
            kept += times
    return found


def _operands(cell, arrays, dtype):
    """Random arguments of a call, in the cell's layout."""
    x, dy, residual = arrays.normal(cell.shape, dtype, 1.0, 2.0), *(arrays.normal(cell.shape, dtype) for _ in range(2))
    if cell.layout == "NHWC":
        x, dy, residual = map(arrays.channels_last, (x, dy, residual))
    real = "float64" if dtype == "float64" else "float32"
    gamma, beta, mean, var = (arrays.normal((cell.shape[1],), real, loc, 0.1) for loc in (1.0, 0.0, 1.0, 4.0))
    return Operands(x, dy, residual, gamma, beta, mean, var)


def _expected(cell, arrays, given, margin):
    """Results in float64, by the formulas as they stand in the textbook.

    Within a ``margin`` of ReLU's kink, where rounding decides whether a gradient passes, ``given.dy`` becomes 0.
    """
    shape = 1, -1, *(1,) * (len(cell.shape) - 2)
    axes = 0, *range(2, len(cell.shape))
    x, residual = map(arrays.float64, (given.x, given.residual))
    gamma, beta, mean, var = (
        arrays.float64(value).reshape(shape)
        for value in (given.gamma, given.beta, given.running_mean, given.running_var)
    )
    if cell.what != "inference":
        mean = x.mean(axes).reshape(shape)
        var = ((x - mean) ** 2).mean(axes).reshape(shape)
    scale = (var + EPS) ** -0.5
    xhat = (x - mean) * scale
    y = xhat * gamma + beta + (residual if "residual" in cell.fused else 0.0)
    if "relu" in cell.fused:
        given.dy *= abs(y) > margin
        y = y * (y > 0)
    if cell.what != "backward":
        return (y,)
    dy = arrays.float64(given.dy) * (y > 0) if "relu" in cell.fused else arrays.float64(given.dy)
    means = dy.mean(axes).reshape(shape), (dy * xhat).mean(axes).reshape(shape)
    dx = gamma * scale * (dy - means[0] - xhat * means[1])
    return (dx, dy) if "residual" in cell.fused else (dx,)


def _check(arrays, actual, expected, limit):
    """Refuse a wrong result."""
    for one, other in zip(actual, expected, strict=True):
        error = float(((arrays.float64(one) - other) ** 2).mean() / (other**2).mean()) ** 0.5
        if not error <= limit:
            raise ValueError(f"wrong result: relative error {error:.1e}")
