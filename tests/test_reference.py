"""The specification itself, against numbers worked by hand and against finite differences; never against a kernel."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

import numbabn as nbn


@pytest.fixture(autouse=True)
def reference():
    with nbn.use_backend("reference"):
        yield


def test_forward_by_hand():
    """Channel 0: values 1, 3, 5, 7, mean 4, variance 5; channel 1: 2, 2, 2, 6, mean 3, variance 3."""
    x = np.array([[[1.0, 3.0], [2.0, 2.0]], [[5.0, 7.0], [2.0, 6.0]]])
    gamma, beta = np.array([2.0, 3.0]), np.array([10.0, -1.0])
    running_mean, running_var = np.array([1.0, 1.0]), np.array([2.0, 2.0])
    y, context = nbn.batch_norm_forward(x, gamma, beta, running_mean, running_var, momentum=0.25, eps=1.0)
    np.testing.assert_array_equal(context.mean, [4.0, 3.0])
    np.testing.assert_array_equal(context.var, [5.0, 3.0])
    np.testing.assert_allclose(y[:, 1], 3.0 * (x[:, 1] - 3.0) / 2.0 - 1.0)
    np.testing.assert_allclose(y[:, 0], 2.0 * (x[:, 0] - 4.0) / np.sqrt(6.0) + 10.0)
    np.testing.assert_allclose(running_mean, [0.75 * 1 + 0.25 * 4, 0.75 * 1 + 0.25 * 3])
    np.testing.assert_allclose(running_var, [0.75 * 2 + 0.25 * 5 * 4 / 3, 0.75 * 2 + 0.25 * 3 * 4 / 3])


def test_backward_by_hand():
    """x = 0, 2: mean 1, variance 1, and with eps = 3, invstd = 1/2, xhat = -1/2, 1/2.

    With dy = 1, 3: dbeta = 4, dgamma = 1, dx = gamma/2 * (dy - 2 - xhat/2) = gamma/2 * (-3/4, 3/4).
    """
    x = np.array([[0.0], [2.0]])
    _, context = nbn.batch_norm_forward(x, np.array([4.0]), np.array([0.0]), eps=3.0)
    grads = nbn.batch_norm_backward(np.array([[1.0], [3.0]]), context)
    np.testing.assert_array_equal(grads.dbeta, [4.0])
    np.testing.assert_array_equal(grads.dgamma, [1.0])
    np.testing.assert_array_equal(grads.dx, [[-1.5], [1.5]])


def test_frozen_backward_by_hand():
    x = np.array([[0.0], [2.0]])
    _, context = nbn.batch_norm_forward(
        x, np.array([3.0]), np.array([0.5]), np.array([1.0]), np.array([0.25]), training=False, eps=0.0
    )
    grads = nbn.batch_norm_backward(np.array([[1.0], [-2.0]]), context)
    np.testing.assert_array_equal(grads.dx, [[6.0], [-12.0]])
    np.testing.assert_array_equal(grads.dgamma, [-6.0])
    np.testing.assert_array_equal(grads.dbeta, [-1.0])


@pytest.mark.parametrize("correction", [0, 1, 2.5])
def test_correction(correction):
    x = np.random.default_rng(1).normal(size=(6, 3))
    running_mean, running_var = np.zeros(3), np.zeros(3)
    nbn.batch_norm(x, None, None, running_mean, running_var, training=True, momentum=1.0, correction=correction)
    np.testing.assert_allclose(running_var, x.var(axis=0) * 6 / (6 - correction))
    np.testing.assert_allclose(running_mean, x.mean(axis=0))


def test_running_statistics_converge_to_those_of_the_data():
    rng = np.random.default_rng(2)
    running_mean, running_var = np.zeros(2), np.ones(2)
    for _ in range(2000):
        x = rng.normal([3.0, -1.0], [2.0, 0.5], (64, 2))
        nbn.batch_norm(x, None, None, running_mean, running_var, training=True, momentum=0.01)
    np.testing.assert_allclose(running_mean, [3.0, -1.0], atol=0.1)
    np.testing.assert_allclose(running_var, [4.0, 0.25], rtol=0.1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("shape", [(5, 2, 3), (7, 3), (2, 2, 2, 2)])
def test_gradients_against_finite_differences(shape, activation, training):
    rng = np.random.default_rng([3, *shape])
    channels = shape[1]
    values = {
        "x": rng.normal(1.0, 2.0, shape),
        "gamma": rng.normal(1.0, 0.3, channels),
        "beta": rng.normal(0.3, 0.3, channels),
        "residual": rng.normal(size=shape),
    }
    running = rng.normal(size=channels), rng.uniform(0.5, 2.0, channels)
    dy = rng.normal(size=shape)

    def forward(values):
        return nbn.batch_norm_forward(
            values["x"], values["gamma"], values["beta"], running[0].copy(), running[1].copy(),
            training=training, activation=activation, residual=values["residual"], eps=0.1,
        )  # fmt: skip

    grads = nbn.batch_norm_backward(dy, forward(values)[1])
    for name, value in values.items():

        def loss(flat, name=name, value=value):
            return np.sum(dy * forward({**values, name: flat.reshape(value.shape)})[0])

        expected = approx_fprime(value.ravel(), loss, 1e-7).reshape(value.shape)
        np.testing.assert_allclose(getattr(grads, f"d{name}"), expected, rtol=2e-5, atol=2e-5)
