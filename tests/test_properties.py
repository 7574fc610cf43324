"""Properties that hold for any input: hypothesis looks for one for which they do not."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import check, tolerance

import numbabn as nbn

SETTINGS = settings(max_examples=150, deadline=None)


@st.composite
def arrays(draw):
    """An array of any layout, with an offset, strides and magnitudes; and its channel axis."""
    ndim = draw(st.integers(2, 5))
    shape = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    axis = draw(st.integers(-ndim, ndim - 1))
    if np.prod(shape) // shape[axis] < 2:
        shape = (*shape, 3)
        axis = axis % ndim
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1])) for _ in shape]
    start = draw(st.integers(0, 3))
    memory = np.full([n * 2 + 3 for n in shape], np.nan, dtype)
    if draw(st.booleans()):
        memory, steps, start = np.full(shape, np.nan, dtype), [1] * len(shape), 0
    order = draw(st.permutations(range(len(shape))))
    memory = np.full([memory.shape[a] for a in order], np.nan, dtype).transpose(np.argsort(order))
    x = memory[tuple(slice(start, start + 2 * n if s == 2 else start + n) for n, s in zip(shape, steps, strict=True))]
    x = x[tuple(slice(None, None, s) for s in steps)]
    assert x.shape == shape
    exponent = draw(st.sampled_from([-12, -3, 0, 3, 12]))
    x[...] = rng.normal(draw(st.sampled_from([0.0, 1.0, 300.0])), 1.0, shape) * 10.0**exponent
    return x, axis


def channels_first(a, axis):
    return np.moveaxis(np.asarray(a, np.float64), axis, 0).reshape(a.shape[axis], -1)


@SETTINGS
@given(arrays(), st.booleans(), st.booleans(), st.booleans(), st.floats(0, 1), st.sampled_from([0.0, 1e-5, 0.1]))
def test_cpu_matches_the_specification(array, training, relu, with_residual, momentum, eps):
    x, axis = array
    rng = np.random.default_rng(x.size)
    channels, count = x.shape[axis], x.size // x.shape[axis]
    dy = rng.normal(size=x.shape).astype(x.dtype)
    options = {
        "training": training, "momentum": momentum, "eps": eps, "axis": axis, "correction": count / 2,
        "activation": "relu" if relu else None,
    }  # fmt: skip
    gamma, beta = rng.normal(1.0, 0.5, (2, channels))
    residual = rng.normal(size=x.shape).astype(x.dtype) if with_residual else None
    before = np.abs(rng.normal(1.0, 0.1, (2, channels)))
    results = []
    for backend, dtype in (("reference", np.float64), ("cpu", x.dtype)):
        running = before.copy()
        y, context = nbn.batch_norm_forward(
            x.astype(dtype) if backend == "reference" else x, gamma, beta, *running,
            residual=None if residual is None else residual.astype(dtype), backend=backend, **options,
        )  # fmt: skip
        results.append((y, running, nbn.batch_norm_backward(dy.astype(dtype), context), context))
    (y, running, grads, context), (y_cpu, running_cpu, grads_cpu, _) = results
    limit = 2 * tolerance(x.dtype, count)
    spread = np.abs(channels_first(x, axis) - context.mean[:, None]).max(1)
    scale = np.abs(gamma) * context.invstd * spread + np.abs(beta) + (4 if with_residual else 0)
    check("y", channels_first(y_cpu, axis), channels_first(y, axis), scale[:, None], limit)
    of_mean = np.stack([spread, np.zeros(channels)])
    check("running", running_cpu, running, np.abs(running) + np.abs(before) + of_mean, limit)
    if relu and np.any(np.abs(channels_first(y, axis)) < limit * scale[:, None]):
        return  # which side of the kink a value this close to it is on is for rounding to say
    slope = np.abs(gamma) * context.invstd * np.abs(dy).max()
    check("dx", channels_first(grads_cpu.dx, axis), channels_first(grads.dx, axis), slope[:, None], limit)
    size = np.sqrt(np.square(channels_first(dy, axis)).sum(1))
    check("dbeta", grads_cpu.dbeta, grads.dbeta, size, limit)
    check("dgamma", grads_cpu.dgamma, grads.dgamma, size * context.invstd * spread, limit)


@SETTINGS
@given(arrays(), st.floats(-50, 50), st.floats(0.1, 10))
def test_shift_and_scale_do_not_matter(array, shift, scale):
    """batch_norm(a x + b) = batch_norm(x) for a > 0, but for eps and rounding."""
    x, axis = array
    x = x.astype(np.float64)
    std = channels_first(x, axis).std(1).max()
    if channels_first(x, axis).std(1).min() == 0:
        return
    y = nbn.batch_norm(x, training=True, axis=axis, eps=0.0)
    moved = nbn.batch_norm(scale * x + shift * std, training=True, axis=axis, eps=0.0)
    np.testing.assert_allclose(moved, y, atol=1e-8)


@SETTINGS
@given(arrays())
def test_output_is_standardised(array):
    x, axis = array
    y = channels_first(nbn.batch_norm(x.astype(np.float64), training=True, axis=axis, eps=0.0), axis)
    spread_out = channels_first(x, axis).std(1) > 0
    np.testing.assert_allclose(y.mean(1)[spread_out], 0.0, atol=1e-9)
    np.testing.assert_allclose(y.std(1)[spread_out], 1.0, rtol=1e-9)


@SETTINGS
@given(arrays(), st.randoms(use_true_random=False))
def test_channels_do_not_mix(array, random):
    """Permuting channels permutes the result: to rounding, since a copy may lie in another order in memory."""
    x, axis = array
    order = list(range(x.shape[axis]))
    random.shuffle(order)
    y = nbn.batch_norm(x, training=True, axis=axis)
    shuffled = nbn.batch_norm(np.take(x, order, axis=axis), training=True, axis=axis)
    np.testing.assert_allclose(shuffled, np.take(y, order, axis=axis), rtol=0, atol=50 * np.finfo(x.dtype).eps)
