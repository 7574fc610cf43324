"""The one place that says how exact a result must be, and how far off one is."""

import numpy as np

LONGEST_RUN = 4096
"""Values that a kernel adds up in the data's own dtype before it goes on in float64."""


ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Relative error of storing a number in a short dtype, which is computed with in float32."""

SUBNORMAL = {"float16": 2.0**-25}
"""Error of storing a number, however small: half of float16's smallest step. (bfloat16 has float32's exponents.)"""


def tolerance(dtype, count):
    """Allowed error, in units of what a result is made of, for statistics over ``count`` values.

    A few roundings in the data's dtype, and the random walk of those in a run's sum, which grows as its root:
    3e-5 for long float32 runs, 6e-14 for float64.
    """
    return 4 * np.finfo("float32" if dtype in ROUNDING else dtype).eps * np.sqrt(16 + min(count, LONGEST_RUN))


def check(name, actual, expected, scale, limit):
    """Fail unless ``|actual - expected| <= limit * scale``, with NaN and Inf in the same places."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"{name}: shape {actual.shape}, expected {expected.shape}"
    finite = np.isfinite(expected)
    assert np.array_equal(finite, np.isfinite(actual)), f"{name}: NaN or Inf in other places than expected"
    allowed = np.broadcast_to(limit * np.asarray(scale, np.float64), expected.shape)
    excess = np.abs(actual - expected)[finite] > allowed[finite]
    if excess.any():
        worst = np.max(np.abs(actual - expected)[finite] / np.maximum(allowed[finite], np.finfo(np.float64).tiny))
        raise AssertionError(f"{name}: {excess.sum()} of {excess.size} values off, the worst by {worst:.3g} tolerances")
