"""Values that break careless kernels: means far from 0, NaN and Inf, magnitudes at the ends of float32's range."""

import numpy as np
import pytest
from cases import CASES, operands
from tolerance import check, tolerance

import numbabn as nbn


@pytest.mark.parametrize("case", [c for c in CASES if c.count > 10], ids=lambda case: case.name)
def test_variance_of_a_distant_column(case):
    """float32 values at 1e4 +- 0.01 are ten steps of the format apart; their variance is still exact to 1e-6."""
    given = operands(case, mean=1e4, std=0.01)
    x = case.place(given.x.astype(np.float32))
    other = tuple(a for a in range(x.ndim) if a != case.axis % x.ndim)
    expected = np.var(x.astype(np.float64), axis=other)
    np.testing.assert_allclose(nbn.batch_stats(x, axis=case.axis).var, expected, rtol=1e-6)


@pytest.mark.parametrize("mean", [0.0, 1.0, 1e3, -1e4, 1e6])
@pytest.mark.parametrize("case", [c for c in CASES if c.count > 10], ids=lambda case: case.name)
def test_distant_means_cost_no_digits(case, mean):
    given = operands(case, mean=mean, std=max(0.1, abs(mean) * 1e-5))
    x, dy = case.place(given.x), case.place(given.dy)
    y, context = nbn.batch_norm_forward(x, axis=case.axis, backend="reference")
    expected = nbn.batch_norm_backward(dy, context)
    y32, context = nbn.batch_norm_forward(x.astype("f4"), axis=case.axis)
    actual = nbn.batch_norm_backward(dy.astype("f4"), context)
    limit = tolerance(np.float32, case.count)
    check("y", y32, y, np.abs(y).max(), limit)
    check("dx", actual.dx, expected.dx, np.abs(expected.dx).max(), limit)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", [c for c in CASES if c.channels > 1], ids=lambda case: case.name)
def test_bad_values_stay_in_their_channel(case, dtype, bad):
    given = operands(case).astype(dtype)
    clean = nbn.batch_norm_forward(case.place(given.x), given.gamma, given.beta, axis=case.axis)
    clean_grads = nbn.batch_norm_backward(case.place(given.dy), clean[1])
    channel = case.channels // 2
    spoilt = np.moveaxis(given.x, case.axis, 0)
    spoilt[(channel, *(0 for _ in spoilt.shape[1:]))] = bad
    y, context = nbn.batch_norm_forward(case.place(given.x), given.gamma, given.beta, axis=case.axis)
    grads = nbn.batch_norm_backward(case.place(given.dy), context)
    others = np.arange(case.channels) != channel
    for actual, expected in ((y, clean[0]), (grads.dx, clean_grads.dx)):
        actual, expected = np.moveaxis(actual, case.axis, 0), np.moveaxis(expected, case.axis, 0)
        assert np.isnan(actual[channel]).all()
        np.testing.assert_array_equal(actual[others], expected[others])
    assert np.isnan(grads.dgamma[channel])
    np.testing.assert_array_equal(grads.dgamma[others], clean_grads.dgamma[others])
    np.testing.assert_array_equal(grads.dbeta, clean_grads.dbeta)


@pytest.mark.parametrize("case", [c for c in CASES if c.channels > 1], ids=lambda case: case.name)
def test_frozen_gradient_ignores_bad_inputs(case):
    given = operands(case).astype("float32")
    given.x[(0,) * given.x.ndim] = np.nan
    arguments = (given.gamma, given.beta, given.running_mean, given.running_var)
    _, context = nbn.batch_norm_forward(case.place(given.x), *arguments, training=False, axis=case.axis)
    assert np.isfinite(nbn.batch_norm_backward(case.place(given.dy), context).dx).all()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_relu_passes_nan_and_its_gradient(backend):
    x = np.full((40, 20), np.nan, np.float32)
    y, context = nbn.batch_norm_forward(
        x, None, None, np.zeros(20), np.ones(20), training=False, activation="relu", backend=backend
    )
    assert np.isnan(y).all()
    assert (nbn.batch_norm_backward(np.ones_like(x), context).dx != 0).all()


FAMILIES = [(4, 20), (2, 20, 2, 2), (40, 20), (4, 20, 5, 5)]
"""Shapes for kernels of few values, of rows, and of planes."""


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("shape", FAMILIES)
def test_relu_in_training_passes_nan(shape, backend):
    x, dy = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    x[0, 3] = np.nan
    y, context = nbn.batch_norm_forward(x, activation="relu", backend=backend)
    for result in (y, nbn.batch_norm_backward(dy, context).dx):
        assert np.isnan(result[:, 3]).all()
        assert np.isfinite(np.delete(result, 3, axis=1)).all()


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("shape", FAMILIES)
def test_relu_lets_no_gradient_through_where_it_is_zero(shape, backend, with_residual):
    x, dy = np.full(shape, 3.0), np.random.default_rng(0).standard_normal(shape)
    given = np.ones(20), np.zeros(20)
    residual = np.zeros(shape) if with_residual else None
    y, context = nbn.batch_norm_forward(x, *given, activation="relu", residual=residual, backend=backend)
    assert not y.any()
    assert not any(result.any() for result in nbn.batch_norm_backward(dy, context) if result is not None)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e15, 1e25, 1e36])
@pytest.mark.parametrize("case", [c for c in CASES if c.count > 4], ids=lambda case: case.name)
def test_extreme_magnitudes(case, scale):
    """Squares of these leave float32's range; eps = 0 makes them count."""
    given = operands(case, mean=0.5, std=1.0)
    x = (given.x * scale).astype("f4")
    y, context = nbn.batch_norm_forward(case.place(x.astype("f8")), eps=0.0, axis=case.axis, backend="reference")
    expected = nbn.batch_norm_backward(case.place(given.dy), context)
    y32, context = nbn.batch_norm_forward(case.place(x), eps=0.0, axis=case.axis)
    actual = nbn.batch_norm_backward(case.place(given.dy.astype("f4")), context)
    limit = tolerance(np.float32, case.count)
    check("y", y32, y, np.abs(y).max(), limit)
    check("dx", actual.dx, expected.dx, np.abs(expected.dx).max(), limit)


@pytest.mark.parametrize("shape", [(1, 1, 1_000_000), (1_000_000, 1)])
@pytest.mark.parametrize("place", [0, 1000, -1])
def test_one_outlier_among_many(shape, place):
    """Where it stands does not matter: at the front it is the origin that means are counted from."""
    x = np.random.default_rng(5).normal(5000.1, 0.01, 1_000_000).astype("f4")
    x[place] = -3333.333
    expected = nbn.batch_stats(x.reshape(shape), backend="reference")
    actual = nbn.batch_stats(x.reshape(shape))
    np.testing.assert_allclose(actual.mean, expected.mean, rtol=1e-11)
    np.testing.assert_allclose(actual.var, expected.var, rtol=1e-5)


@pytest.mark.parametrize("shape", [(64, 2, 50), (3200, 2)])
def test_values_at_both_ends_of_the_range(shape):
    x = np.random.default_rng(6).choice([-1.7e38, 1.7e38, 1.0], shape).astype("f4")
    y = nbn.batch_norm(x, training=True)
    expected = nbn.batch_norm(x.astype("f8"), training=True, backend="reference")
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_infinite_parameters_act_as_arithmetic_says(backend):
    x = np.array([[1.0], [2.0], [4.0]] * 10, np.float32)
    y = nbn.batch_norm(x, np.array([np.inf]), None, np.zeros(1), np.ones(1), backend=backend)
    assert np.isposinf(y).all()
    y = nbn.batch_norm(x, None, None, np.array([np.inf]), np.ones(1), backend=backend)
    assert np.isneginf(y).all()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("shape", [(40, 20), (40, 3)])
def test_a_variance_of_zero_without_eps_gives_inf(shape, backend):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    zeros, ones = np.zeros(shape[1]), np.ones(shape[1])
    y, context = nbn.batch_norm_forward(x, ones, ones, zeros, zeros, training=False, eps=0.0, backend=backend)
    np.testing.assert_array_equal(y, np.sign(x) * np.inf)
    np.testing.assert_array_equal(nbn.batch_norm_backward(x, context).dgamma, np.full(shape[1], np.inf))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8, np.uint8])
def test_narrow_numpy_scalars_are_numbers_like_others(kind):
    x = np.random.default_rng(7).normal(size=(200_000, 1))
    expected, actual = np.ones((2, 1)), np.ones((2, 1))
    nbn.batch_norm(x, None, None, *expected, training=True, momentum=1.0, correction=1)
    nbn.batch_norm(x, None, None, *actual, training=True, momentum=kind(1), correction=kind(1))
    np.testing.assert_array_equal(actual, expected)


def test_overflowing_running_variance_raises_nothing_half_way():
    x = np.array([[1e30], [-1e30]], np.float32)
    running_mean, running_var = np.zeros(1, np.float32), np.ones(1, np.float32)
    with np.errstate(all="raise"):
        nbn.batch_norm(x, None, None, running_mean, running_var, training=True)
    assert np.isposinf(running_var).all()
    assert running_mean == 0


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4, -3e-20])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_constant_channels(case, value):
    x = np.full(case.shape, value, np.float32)
    stats = nbn.batch_stats(case.place(x), axis=case.axis)
    np.testing.assert_array_equal(stats.mean, np.full(case.channels, np.float64(np.float32(value))))
    np.testing.assert_array_equal(stats.var, np.zeros(case.channels))
    y = nbn.batch_norm(case.place(x), None, np.full(case.channels, 0.25), training=True, axis=case.axis)
    np.testing.assert_array_equal(y, np.full(case.shape, 0.25, np.float32))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sorted_and_outlying_values(case):
    """A mean that moves through the data, and a first value that is a poor guess of it."""
    given = operands(case)
    x = np.sort(given.x.reshape(-1)).reshape(case.shape).astype("f4")
    x[(0,) * x.ndim] = 1e4
    expected = nbn.batch_stats(case.place(x.astype("f8")), axis=case.axis, backend="reference")
    actual = nbn.batch_stats(case.place(x), axis=case.axis)
    limit = tolerance(np.float32, case.count)
    check("mean", actual.mean, expected.mean, np.sqrt(expected.var) + 1e-12, limit)
    check("var", actual.var, expected.var, expected.var + 1e-24, limit)


@pytest.mark.parametrize("shape", [(3000, 1), (3000, 2), (100, 1, 30)])
def test_squares_near_the_end_of_the_range(shape):
    x = np.sort(np.random.default_rng(0).standard_normal(shape), axis=0) * 3e151
    np.testing.assert_allclose(nbn.batch_stats(x).var, nbn.batch_stats(x, backend="reference").var, rtol=1e-10)


@pytest.mark.parametrize("shape", [(300, 8), (2000, 80), (30, 8, 40)])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_a_channel_of_infinities_has_no_statistics(shape, value):
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    x[:, 2] = value
    running_mean, running_var = np.zeros(shape[1]), np.ones(shape[1])
    nbn.batch_norm(x, None, None, running_mean, running_var, training=True)
    assert np.isnan(running_mean[2])
    assert np.isnan(running_var[2])
    assert np.isfinite(np.delete(running_mean, 2)).all()


@pytest.mark.parametrize("shape", [(300, 80), (4, 80, 37), (2, 9, 7001)])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_one_infinite_gradient_makes_infinite_sums(shape, value):
    """Of dgamma, too, though the mean of a channel lost digits to the dtype (an infinite dy where x is the rounded
    mean gives NaN: there, the sign is lost with them), and dx has what the reference has."""
    x, dy = (np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in (0, 1))
    dy.reshape(*shape[:2], -1)[1, :, 0] = value
    grads = {}
    for backend in ("cpu", "reference"):
        _, context = nbn.batch_norm_forward(x, np.ones(shape[1]), np.zeros(shape[1]), backend=backend)
        with np.errstate(invalid="ignore"):
            grads[backend] = nbn.batch_norm_backward(dy, context)
    assert np.isinf(grads["reference"].dgamma).all()
    np.testing.assert_array_equal(grads["cpu"].dgamma, grads["reference"].dgamma)
    np.testing.assert_array_equal(grads["cpu"].dbeta, grads["reference"].dbeta)
    assert np.isinf(grads["reference"].dx).any(axis=(0, *range(2, x.ndim))).all()
    np.testing.assert_array_equal(grads["cpu"].dx, grads["reference"].dx)


@pytest.mark.parametrize("shape", [(4, 40), (4, 40, 30)])
def test_a_negative_zero_stays_one(shape):
    x, gamma, beta = np.ones(shape, np.float32), np.full(40, -1, np.float32), np.full(40, -0.0, np.float32)
    for backend in ("cpu", "reference"):
        assert np.signbit(nbn.batch_norm(x, gamma, beta, training=True, backend=backend)).all()


@pytest.mark.parametrize("spread", [1, 100])
@pytest.mark.parametrize("shape", [(2, 3000), (3, 300), (4, 70), (1, 40, 2), (2, 9, 2)])
def test_gradients_over_few_values_lose_nothing_to_the_dtype(shape, spread):
    """Two values give gradients that are eps / var of their terms: as exact as the reference's, digit by digit."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape, np.float32) for _ in range(2))
    x *= np.float32(spread)
    results = {}
    for backend in ("cpu", "reference"):
        _, context = nbn.batch_norm_forward(x, backend=backend)
        results[backend] = nbn.batch_norm_backward(dy, context).dx
    largest = np.abs(results["reference"]).max(axis=(0, *range(2, x.ndim)), keepdims=True)
    assert (np.abs(results["cpu"] - results["reference"]) <= 1e-6 * largest).all()


@pytest.mark.parametrize("shape", [(64, 40), (5000, 3), (8, 5, 40), (2, 2, 70_000)])
def test_gradients_of_tiny_values_are_finite(shape):
    """invstd squared is beyond float64 here, the gradient is not."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape) + 3) * 1e-156, rng.standard_normal(shape)
    results = {}
    for backend in ("cpu", "reference"):
        _, context = nbn.batch_norm_forward(x, eps=0.0, backend=backend)
        results[backend] = nbn.batch_norm_backward(dy, context).dx
    np.testing.assert_allclose(results["cpu"] * 1e-156, results["reference"] * 1e-156, rtol=0, atol=1e-8)
