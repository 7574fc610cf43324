"""Whether a system's results are right: batch normalization in float64 NumPy, written down once more."""

import numpy as np
from problem import EPS, MOMENTUM

TOLERANCE = {"float32": 2e-4, "float64": 1e-10}
"""Allowed error in units of ``1 + |value|``: this finds wrong results and leaves room for hasty sums in float32."""

CHANNELS = 16
"""Channels checked at a time, which keeps float64 copies small; side by side in float32 they fill a cache line."""


def complaint(problem, results) -> str | None:
    """What is wrong with ``results`` (arrays by name), None if nothing is.

    Parameters
    ----------
    problem : Problem
    results : dict of str to array
        ``y``, ``running_mean`` and ``running_var`` for ``"forward"``, ``y`` for ``"inference"``, ``dx``, ``dgamma``,
        ``dbeta`` and, if a residual was given, ``dresidual`` for ``"backward"``.
    """
    channels = problem.gamma.size
    for first in range(0, channels, CHANNELS):
        part = slice(first, min(channels, first + CHANNELS))
        expected, unsure = _expected(problem, part)
        if expected.keys() != results.keys():
            return f"gives {', '.join(results)}; expected {', '.join(expected)}"
        for name, values in expected.items():
            error = np.abs(_channels(results[name], part, problem) - values)
            if name in ("dx", "dresidual"):
                error[unsure] = 0.0
            # A sum of n values of either sign is as exact as its way there, a random walk of sqrt(n) steps.
            size = np.abs(values) + (np.sqrt(problem.x.size / channels) if name in ("dgamma", "dbeta") else 1.0)
            worst = np.max(error / size, initial=0.0)
            if not worst <= TOLERANCE[problem.x.dtype.name]:
                return f"{name} is wrong by {worst:.2g} of 1 + |{name}|"
    return None


def _channels(values, part, problem):
    """Some channels in float64, as (channels, values in each)."""
    if np.ndim(values) == 1:
        return np.asarray(values[part], np.float64)[:, None]
    taken = np.moveaxis(values, problem.axis, 0)[part]
    return np.array(taken, np.float64).reshape(len(taken), -1)


def _expected(problem, part):
    """Results by name, and where ReLU's sign is too close to call."""
    names = ("x", "gamma", "beta", "running_mean", "running_var", "dy", "residual")
    x, gamma, beta, *running, dy, residual = (_channels(getattr(problem, name), part, problem) for name in names)
    n = x.shape[1]
    mean, var = running if problem.what == "inference" else (x.mean(1, keepdims=True), x.var(1, keepdims=True))
    invstd = 1.0 / np.sqrt(var + EPS)
    xhat = (x - mean) * invstd
    y = xhat * gamma + beta
    if problem.has_residual:
        y += residual
    if problem.what != "backward":
        results = {"y": np.maximum(y, 0.0) if problem.relu else y}
        if problem.what == "forward":
            for name, old, new in zip(("mean", "var"), running, (mean, var * n / (n - 1)), strict=True):
                results[f"running_{name}"] = (1 - MOMENTUM) * old + MOMENTUM * new
        return results, None
    if problem.relu:
        dy = np.where(y > 0, dy, 0.0)
    dbeta, dgamma = dy.sum(1, keepdims=True), (dy * xhat).sum(1, keepdims=True)
    results = {"dx": gamma * invstd * (dy - dbeta / n - xhat * (dgamma / n)), "dgamma": dgamma, "dbeta": dbeta}
    if problem.has_residual:
        results["dresidual"] = dy
    return results, (np.abs(y) < 1e-4) & problem.relu
