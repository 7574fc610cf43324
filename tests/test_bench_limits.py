"""The copy limit: every element is moved, and no other."""

import numpy as np
import pytest

from numbabn.bench import limits


def poisoned(size, dtype, offset):
    """A window somewhere in NaNs, and the NaNs on either side of it."""
    memory = np.full(size + offset + 40, np.nan, dtype)
    return memory[offset : offset + size], (memory[:offset], memory[offset + size :])


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_limits_move_every_element_and_no_other(dtype, streamed):
    rng = np.random.default_rng(0)
    for size in (0, 1, 7, 16, 33, 1000, 40_003):
        dy, x = rng.normal(size=(2, size + 3)).astype(dtype)[:, 3:]  # one of them begins anywhere
        for offset in (0, 1, 5, 16):
            y, around = poisoned(size, dtype, offset)
            limits.run([(x, y)], streamed=streamed)
            np.testing.assert_array_equal(y, x)
            dx, around_too = poisoned(size, dtype, offset)
            limits.run([(dy, x, dx)], streamed=streamed)
            np.testing.assert_array_equal(dx, dy + x)
            assert all(np.isnan(part).all() for part in around + around_too)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_limits_are_shared_by_any_number_of_threads(threads):
    x = np.arange(101.0)
    for streamed in (False, True):
        y, dx = np.full((2, x.size), np.nan)
        limits.copy.serial(x, y, streamed, threads)
        limits.triad.serial(x, x, dx, streamed, threads)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(dx, 2 * x)
