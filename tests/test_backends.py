"""Every backend, layout, dtype and fused form against the specification."""

import numpy as np
import pytest
from cases import CASES, EPILOGUES, encoded, operands
from tolerance import ROUNDING, SUBNORMAL, check, tolerance

import numbabn as nbn


class Host:
    """NumPy arrays as they are: what a backend is tested with, unless it takes arrays of another kind."""

    def send(self, array, dtype):
        """An array like one of NumPy's, that lies in memory as it does. (It holds bfloat16 by its bits.)"""
        return array

    def fetch(self, array):
        """A NumPy array of its values."""
        return array


HOST = Host()


def parameter_dtype(dtype):
    """That of gamma, beta and statistics beside data of a dtype."""
    return "float32" if dtype in ROUNDING else dtype


def run(case, given, dtype, *, training, activation, with_residual, backend=None, outputs=False, kind=HOST):
    """Forward and backward; results by name."""

    def data(values):
        return kind.send(case.place(encoded(values, dtype)), dtype)

    gamma, beta, running_mean, running_var = (
        kind.send(values.astype(parameter_dtype(dtype)), parameter_dtype(dtype))
        for values in (given.gamma, given.beta, given.running_mean, given.running_var)
    )
    residual = data(given.residual) if with_residual else None
    poisoned = [data(np.full(case.shape, np.nan)) for _ in range(3)] if outputs else [None] * 3
    y, context = nbn.batch_norm_forward(
        data(given.x), gamma, beta, running_mean, running_var,
        training=training, axis=case.axis, activation=activation, residual=residual, out=poisoned[0], backend=backend,
    )  # fmt: skip
    gradient_outputs = tuple(poisoned[1:]) if with_residual else poisoned[1]
    grads = nbn.batch_norm_backward(data(given.dy), context, out=gradient_outputs)
    if outputs:
        assert y is poisoned[0]
        assert grads.dx is poisoned[1]
    results = {
        "y": y, "running_mean": running_mean, "running_var": running_var, "mean": context.mean, "var": context.var,
        **grads._asdict(),
    }  # fmt: skip
    return {name: None if value is None else kind.fetch(value) for name, value in results.items()}


def scales(case, given, expected, training):
    """What each result is made of: its error is measured in these units."""
    other = tuple(a for a in range(len(case.shape)) if a != case.axis % len(case.shape))
    var = expected["var"] if training else given.running_var
    slope = np.abs(given.gamma) / np.sqrt(var + 1e-5)
    largest_dy = np.max(np.abs(given.dy), axis=other)
    spread = np.sqrt(np.max(np.square(np.moveaxis(given.x, case.axis, -1) - expected["mean"]), axis=tuple(
        range(len(case.shape) - 1)
    )))  # fmt: skip
    shape = [-1 if a == case.axis % len(case.shape) else 1 for a in range(len(case.shape))]
    root = np.sqrt(np.square(given.dy).sum(axis=other))
    return {
        "y": (slope * spread + np.abs(given.beta) + np.max(np.abs(given.residual))).reshape(shape),
        "running_mean": np.abs(given.running_mean) + np.abs(expected["mean"]),
        "running_var": given.running_var + expected["var"],
        "mean": spread,
        "var": np.abs(expected["var"]),
        "dx": (slope * largest_dy).reshape(shape),
        "dgamma": root * spread / np.sqrt(var + 1e-5),
        "dbeta": root,
        "dresidual": largest_dy.reshape(shape),
    }


def check_against_specification(case, dtype, backend=None, kind=HOST, **form):
    """All results of a backend against the reference's, each in units of what it is made of."""
    given, training = operands(case).rounded(dtype), form["training"]
    limit, rounding = tolerance(dtype, case.count), ROUNDING.get(dtype, 0.0)
    before = run(case, given, "float64", backend="reference", **{**form, "activation": None})
    at_kink = np.abs(before["y"]) <= (limit + rounding) * scales(case, given, before, training)["y"]
    given.dy[at_kink] = 0.0  # which side of ReLU's kink these are on is for rounding to say
    expected = run(case, given, "float64", backend="reference", **form)
    actual = run(case, given, dtype, backend=backend, outputs=True, kind=kind, **form)
    for name, scale in scales(case, given, expected, training).items():
        if name == "dresidual" and not form["with_residual"]:
            assert actual[name] is None
            continue
        allowed = limit * np.broadcast_to(scale, expected[name].shape)
        if name in ("y", "dx", "dresidual"):
            allowed = allowed + rounding * (np.abs(expected[name]) + allowed) + SUBNORMAL.get(dtype, 0.0)
        if kind is HOST:
            parameter = name.startswith(("running", "dgamma", "dbeta"))
            expected_dtype = np.float64 if name in ("mean", "var") else parameter_dtype(dtype) if parameter else dtype
            assert actual[name].dtype == expected_dtype
        check(name, actual[name], expected[name], allowed, 1.0)


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize(("activation", "with_residual"), EPILOGUES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_matches_specification(case, dtype, activation, with_residual, training):
    form = {"training": training, "activation": activation, "with_residual": with_residual}
    check_against_specification(case, dtype, "cpu", **form)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradient_is_orthogonal_to_what_normalisation_removes(case):
    """dx has no component along 1 and along xhat: adding a constant to x, or scaling it, changes nothing."""
    given = operands(case)
    results = run(case, given, "float64", training=True, activation=None, with_residual=False, backend="cpu")
    dx, x = (np.moveaxis(a, case.axis, 0).reshape(case.channels, -1) for a in (results["dx"], given.x))
    xhat = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    size = np.abs(given.gamma) / np.sqrt(x.var(1) + 1e-5) * np.abs(given.dy).max() * case.count
    check("sum(dx)", dx.sum(1), np.zeros(case.channels), size, tolerance("float64", case.count))
    # with eps > 0 the second sum is what eps leaves of it: dgamma * gamma * invstd * eps / (var + eps)
    left = results["dgamma"] * given.gamma / np.sqrt(x.var(1) + 1e-5) * 1e-5 / (x.var(1) + 1e-5)
    check("sum(dx * xhat)", (dx * xhat).sum(1), left, size, tolerance("float64", case.count))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_results_lie_in_memory_as_the_input_does(case):
    given = operands(case).astype("float32")
    x = case.place(given.x)
    y, context = nbn.batch_norm_forward(x, axis=case.axis)
    dx = nbn.batch_norm_backward(case.place(given.dy), context).dx
    if case.memory != "gaps":
        assert y.strides == dx.strides == x.strides
        assert np.shares_memory(context.x, x)
    assert y.shape == dx.shape == x.shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_batch_stats(case, dtype):
    given = operands(case)
    expected = nbn.batch_stats(case.place(given.x), axis=case.axis, backend="reference")
    actual = nbn.batch_stats(case.place(given.x.astype(dtype)), axis=case.axis)
    assert actual.count == case.count
    assert actual.mean.dtype == actual.var.dtype == np.float64
    limit = tolerance(dtype, case.count)
    check("mean", actual.mean, expected.mean, np.sqrt(expected.var) * np.sqrt(case.count), limit)
    check("var", actual.var, expected.var, expected.var, limit)


def test_inference_equals_training_with_the_same_statistics():
    case = next(case for case in CASES if case.name == "NCHW-parallel")
    given = operands(case).astype("float32")
    y, context = nbn.batch_norm_forward(given.x, given.gamma, given.beta)
    frozen = nbn.batch_norm(given.x, given.gamma, given.beta, context.mean, context.var)
    np.testing.assert_array_equal(frozen, y)


def test_context_serves_several_backward_calls():
    given = operands(CASES[0])
    _, context = nbn.batch_norm_forward(given.x, given.gamma, given.beta, activation="relu")
    first = nbn.batch_norm_backward(given.dy, context)
    given.gamma[:] = 0.0  # an optimiser's step in between
    second = nbn.batch_norm_backward(given.dy, context)
    for a, b in zip(first[:3], second[:3], strict=True):
        np.testing.assert_array_equal(a, b)


def test_parameters_keep_their_dtype():
    given = operands(CASES[0])
    x = given.x.astype(np.float32)
    running_mean, running_var = np.zeros(7, np.float32), np.ones(7, np.float64)
    y, context = nbn.batch_norm_forward(x, given.gamma, given.beta.astype(np.float32), running_mean, running_var)
    grads = nbn.batch_norm_backward(given.dy.astype(np.float32), context)
    assert (y.dtype, grads.dx.dtype) == (np.float32, np.float32)
    assert (grads.dgamma.dtype, grads.dbeta.dtype) == (np.float64, np.float32)
    assert (running_mean.dtype, running_var.dtype) == (np.float32, np.float64)
    assert running_mean.any()


def test_absent_parameters_have_no_gradient():
    given = operands(CASES[0])
    y, context = nbn.batch_norm_forward(given.x)
    np.testing.assert_array_equal(y, nbn.batch_norm(given.x, np.ones(7), np.zeros(7), training=True))
    grads = nbn.batch_norm_backward(given.dy, context)
    assert grads.dgamma is None
    assert grads.dbeta is None
    assert grads.dresidual is None


def test_running_statistics_with_any_strides():
    given = operands(CASES[0])
    pairs = np.zeros((7, 2))
    nbn.batch_norm(given.x, None, None, pairs[:, 0], pairs[::-1, 1], training=True, momentum=1.0, correction=0)
    np.testing.assert_allclose(pairs[:, 0], given.x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(pairs[::-1, 1], given.x.var(0), rtol=1e-13)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (4, 0), (0, 0)])
def test_empty_batch(shape, backend):
    running_mean, running_var = np.full(shape[1], 5.0), np.full(shape[1], 7.0)
    x = np.empty(shape)
    y, context = nbn.batch_norm_forward(x, np.ones(shape[1]), None, running_mean, running_var, backend=backend)
    grads = nbn.batch_norm_backward(np.empty(shape), context)
    assert y.shape == grads.dx.shape == shape
    np.testing.assert_array_equal(grads.dgamma, np.zeros(shape[1]))
    assert (running_mean == 5).all()
    assert (running_var == 7).all()


@pytest.mark.parametrize("order", ["out-is-x", "out-is-residual"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_in_place(case, order):
    given = operands(case).astype("float32")
    x, residual = case.place(given.x), case.place(given.residual)
    expected = nbn.batch_norm(x, residual=residual, activation="relu", training=True, axis=case.axis)
    out = x if order == "out-is-x" else residual
    nbn.batch_norm(x, residual=residual, activation="relu", training=True, axis=case.axis, out=out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("overwritten", ["dx", "dresidual"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backward_in_place(case, overwritten, activation):
    given = operands(case).astype("float32")
    _, context = nbn.batch_norm_forward(
        case.place(given.x), residual=case.place(given.residual), activation=activation, axis=case.axis
    )
    expected = nbn.batch_norm_backward(case.place(given.dy), context)
    dy = case.place(given.dy)
    other = case.place(np.full(case.shape, np.nan, np.float32))
    actual = nbn.batch_norm_backward(dy, context, out=(dy, other) if overwritten == "dx" else (other, dy))
    np.testing.assert_array_equal(actual.dx, expected.dx)
    np.testing.assert_array_equal(actual.dresidual, expected.dresidual)
    alone = nbn.batch_norm_backward(dy := case.place(given.dy), context, out=dy)
    np.testing.assert_array_equal(alone.dx, expected.dx)
    np.testing.assert_array_equal(alone.dresidual, expected.dresidual)


def test_read_only_and_unaligned_inputs():
    given = operands(CASES[0]).astype("float32")
    expected = nbn.batch_norm(given.x, training=True)
    given.x.flags.writeable = False
    np.testing.assert_array_equal(nbn.batch_norm(given.x, training=True), expected)
    bytes_ = np.empty(given.x.nbytes + 1, np.uint8)
    unaligned = bytes_[1:].view(np.float32).reshape(given.x.shape)
    unaligned[...] = given.x
    np.testing.assert_array_equal(nbn.batch_norm(unaligned, training=True, out=unaligned), expected)


def test_arrays_on_disk(tmp_path):
    given = operands(CASES[0]).astype("float32")
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=given.x.shape)
    out = np.memmap(tmp_path / "y", np.float32, "w+", shape=given.x.shape)
    x[...] = given.x
    assert nbn.batch_norm(x, training=True, out=out) is out
    np.testing.assert_array_equal(out, nbn.batch_norm(given.x, training=True))


def test_lists_are_arrays():
    np.testing.assert_array_equal(nbn.batch_norm([[1.0], [3.0]], [2.0], training=True, eps=0.0), [[-2.0], [2.0]])
