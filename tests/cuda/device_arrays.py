"""Arrays that live on a device: what comes back, what is refused. In the simulator, the emulator, and on a card."""

import numpy as np
import pytest
from cases import Case, encoded, operands
from kinds import KINDS, Array, Torch

import numbabn as nbn
from numbabn.backends.cuda import counters, strided, toolkit

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 6, 5)).astype(np.float32)
DY = RNG.standard_normal((4, 6, 5)).astype(np.float32)
ONES = np.ones(6, np.float32)


def send(library, array):
    """A copy of an array of float32, on the device."""
    return library.send(array.copy(), "float32")


def test_results_are_of_the_callers_kind(library):
    x = send(library, X)
    y, context = nbn.batch_norm_forward(x, send(library, ONES), residual=send(library, DY), activation="relu")
    grads = nbn.batch_norm_backward(send(library, DY), context)
    stats = nbn.batch_stats(x)
    results = y, grads.dx, grads.dgamma, grads.dresidual, context.mean, context.invstd, stats.mean, stats.var
    assert {type(result) for result in results} == {library.results}
    assert grads.dbeta is None
    assert context.x is x
    assert stats.count == 20
    expected = nbn.batch_stats(X)
    np.testing.assert_allclose(library.fetch(stats.mean), expected.mean, atol=1e-6)
    np.testing.assert_allclose(library.fetch(stats.var), expected.var, rtol=1e-6)
    assert repr(context).startswith("Context((4, 6, 5) ")


def test_without_activation_the_residuals_gradient_is_dy_itself(library):
    _, context = nbn.batch_norm_forward(send(library, X), residual=send(library, DY))
    dy = send(library, DY)
    assert nbn.batch_norm_backward(dy, context).dresidual is dy
    grads = nbn.batch_norm_backward(dy, context, out=dy)
    assert grads.dx is dy
    np.testing.assert_array_equal(library.fetch(grads.dresidual), DY)
    elsewhere = send(library, np.full_like(X, np.nan))
    assert nbn.batch_norm_backward(send(library, DY), context, out=(None, elsewhere)).dresidual is elsewhere
    np.testing.assert_array_equal(library.fetch(elsewhere), DY)


LARGE = [] if toolkit.SIMULATED else [(2, 3, 9000), (2, 3, 9001), (1500, 20)]
"""Shapes whose channels are held by teams, where a block may hold little; too large for the simulator."""


@pytest.mark.parametrize("shape", [(4, 6, 5), (5, 24), (5, 3, 9), *LARGE])
@pytest.mark.parametrize("what", ["x", "residual"])
def test_in_place(library, what, shape, way):
    values = np.resize(X, shape), np.resize(DY, shape)
    arrays = dict(zip(("x", "residual"), (send(library, value) for value in values), strict=True))
    expected = nbn.batch_norm(**arrays, training=True, activation="relu")
    assert nbn.batch_norm(**arrays, training=True, activation="relu", out=arrays[what]) is arrays[what]
    np.testing.assert_array_equal(library.fetch(arrays[what]), library.fetch(expected))
    np.testing.assert_allclose(
        library.fetch(expected),
        nbn.batch_norm(values[0], training=True, residual=values[1], activation="relu", backend="reference"),
        atol=1e-5,
    )


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("shape", [(5, 24), (5, 3, 9), *LARGE])
def test_without_a_context_results_are_the_same(library, shape, training, way):
    """Though then no table of statistics is written, for which gamma stands in."""
    channels = np.random.default_rng(1).random((4, shape[1])).astype(np.float32) + 0.5
    parameters, others = ([send(library, row) for row in channels] for _ in range(2))
    x = send(library, np.resize(X, shape))
    y, _ = nbn.batch_norm_forward(x, *parameters, training=training)
    np.testing.assert_array_equal(library.fetch(nbn.batch_norm(x, *others, training=training)), library.fetch(y))
    for one, other in zip(parameters, others, strict=True):
        np.testing.assert_array_equal(library.fetch(one), library.fetch(other))
    np.testing.assert_array_equal(library.fetch(others[0]), channels[0])


@pytest.mark.parametrize("shape", [(4, 6, 5), (5, 64), (3, 2, 64)])
def test_arrays_that_are_not_aligned(library, shape, way):
    values = np.resize(X, shape) + np.resize(DY[::-1], shape)
    expected = nbn.batch_norm(values, training=True, backend="reference")
    base = np.zeros(values.size + 1, np.float32)
    base[1:] = values.reshape(-1)
    (x,) = library.windows(base, [1], shape)
    np.testing.assert_allclose(library.fetch(nbn.batch_norm(x, training=True)), expected, atol=1e-5)
    (out,) = library.windows(np.full(values.size + 1, np.nan, np.float32), [1], shape)
    assert nbn.batch_norm(send(library, values), training=True, out=out) is out
    np.testing.assert_allclose(library.fetch(out), expected, atol=1e-5)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_results_may_take_the_place_of_parameters(library, training, place):
    """Which some blocks read later than others write."""
    parameters = np.random.default_rng(1).random((4, 6)).astype(np.float32) + 0.5
    memory = np.zeros(X.size, np.float32)
    memory[:6] = parameters[place]
    out, first = library.windows(memory, [0, 0], X.shape, (6,))
    given = [send(library, row) for row in parameters]
    given[place] = first
    if training and place > 1:
        with pytest.raises(ValueError, match=r"running_(mean|var) overlaps out"):
            nbn.batch_norm(send(library, X), *given, training=True, out=out)
        return
    y = nbn.batch_norm(send(library, X), *given, training=training, out=out)
    expected = nbn.batch_norm(X, *parameters.astype(np.float64), training=training, backend="reference")
    np.testing.assert_allclose(library.fetch(y), expected, atol=1e-5)


def test_parameters_with_gaps(library):
    pairs = np.stack([ONES, np.zeros(6, np.float32)], 1)
    running = [library.strided(pairs), library.strided(pairs[::-1].copy())]
    gamma = library.strided(np.stack([np.arange(6, dtype=np.float32), np.full(6, np.nan, np.float32)], 1))
    y = nbn.batch_norm(send(library, X), gamma, None, *running, training=True, momentum=1.0, correction=0)
    expected = nbn.batch_norm(X, np.arange(6.0), training=True)
    np.testing.assert_allclose(library.fetch(y), expected, atol=1e-5)
    np.testing.assert_allclose(library.fetch(running[0]), X.mean((0, 2)), atol=1e-6)
    np.testing.assert_allclose(library.fetch(running[1]), X.var((0, 2)), rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 2, 2, 2, 2, 2), (3, 4, 3, 5, 7), (3, 2, 3, 2, 20), (2, 9, 40), (90, 3)])
def test_gaps_on_many_axes(library, shape, monkeypatch):
    """A thread takes many elements; of more axes than one copy has, it makes several."""
    monkeypatch.setattr(strided, "COPIERS", 1)
    case = Case("gaps", shape, memory="gaps")
    given = operands(case)
    x = library.send(case.place(encoded(given.x, "float32")), "float32")
    expected = nbn.batch_norm(given.x, training=True)
    np.testing.assert_allclose(library.fetch(nbn.batch_norm(x, training=True)), expected, atol=1e-5)


def in_a_team(library):
    """What a call returns whose blocks are teams, and what is expected."""
    shape = (20 if toolkit.SIMULATED else 600), 2, 9
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y, context = nbn.batch_norm_forward(send(library, x))
    dx = nbn.batch_norm_backward(send(library, x[::-1]), context).dx
    expected, context = nbn.batch_norm_forward(x, backend="reference")
    return zip((y, dx), (expected, nbn.batch_norm_backward(x[::-1], context).dx), strict=True)


@pytest.mark.parametrize("way", ["in teams"], indirect=True)
def test_teams_leave_their_counters_at_0(library, way, monkeypatch):
    monkeypatch.setattr(counters, "_KEPT", {})
    for _ in range(3):
        for found, expected in in_a_team(library):
            np.testing.assert_allclose(library.fetch(found), expected, atol=1e-5)
    (memory,) = counters._KEPT.values()
    assert (memory.owner.copy_to_host() == 0).all()


@pytest.mark.parametrize("way", ["in teams"], indirect=True)
@pytest.mark.parametrize("lacking", ["counters", "streams", "number"])
def test_counters_that_are_made_for_a_launch(library, way, lacking, monkeypatch):
    """For more teams or streams than keep some, or where a stream has no number."""
    monkeypatch.setattr(counters, "_KEPT", {})
    if lacking == "number":
        monkeypatch.setattr(toolkit, "lasting_number", lambda stream: None)
    else:
        monkeypatch.setattr(counters, lacking.upper(), 0)
    for found, expected in in_a_team(library):
        np.testing.assert_allclose(library.fetch(found), expected, atol=1e-5)
    assert not counters._KEPT


@pytest.mark.parametrize("shape", [(12, 30), (4, 30, 7)])
def test_one_infinite_gradient_makes_infinite_sums(library, shape, way):
    """Of dgamma, too, though the mean of a channel lost digits to the dtype (an infinite dy where x is the rounded
    mean gives NaN: there, the sign is lost with them), and dx has what the reference has."""
    x, dy = (np.random.default_rng(seed).standard_normal(shape).astype(np.float32) for seed in (0, 1))
    dy.reshape(*shape[:2], -1)[1, :, 0] = np.inf
    _, context = nbn.batch_norm_forward(send(library, x), send(library, np.ones(30, np.float32)))
    grads = nbn.batch_norm_backward(send(library, dy), context)
    _, context = nbn.batch_norm_forward(x, np.ones(30, np.float32), backend="reference")
    with np.errstate(invalid="ignore"):
        expected = nbn.batch_norm_backward(dy, context)
    assert np.isinf(expected.dgamma).all()
    assert np.isinf(expected.dx).any(axis=(0, *range(2, x.ndim))).all()
    np.testing.assert_array_equal(library.fetch(grads.dgamma), expected.dgamma)
    np.testing.assert_array_equal(library.fetch(grads.dx), expected.dx)


@pytest.mark.parametrize("shape", [(4, 30), (4, 30, 7)])
def test_a_negative_zero_stays_one(library, shape, way):
    x, gamma, beta = np.ones(shape, np.float32), np.full(30, -1, np.float32), np.full(30, -0.0, np.float32)
    y = nbn.batch_norm(*(send(library, array) for array in (x, gamma, beta)), training=True)
    assert np.signbit(library.fetch(y)).all()


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (4, 0), (0, 0)])
def test_empty_batch(library, shape):
    x, channels = send(library, np.empty(shape, np.float32)), shape[1]
    running = [library.send(np.full(channels, value, np.float32), "float32") for value in (5.0, 7.0)]
    y, context = nbn.batch_norm_forward(x, library.send(np.ones(channels, np.float32), "float32"), None, *running)
    grads = nbn.batch_norm_backward(x, context)
    assert library.fetch(y).shape == library.fetch(grads.dx).shape == shape
    np.testing.assert_array_equal(library.fetch(grads.dgamma), np.zeros(channels))
    np.testing.assert_array_equal(library.fetch(context.mean), np.full(channels, np.nan))
    assert (library.fetch(running[0]) == 5).all()
    assert (library.fetch(running[1]) == 7).all()


def test_what_does_not_fit_is_refused_before_anything_is_written(library):
    x, ones = send(library, X), send(library, ONES)
    mean, var = send(library, ONES), send(library, ONES)

    def refused(error, message, *arguments, **options):
        with pytest.raises(error, match=message):
            nbn.batch_norm(x, *arguments, training=True, **options)

    refused(TypeError, r"gamma \(ndarray\) is on the host, but x lives on a CUDA device: copy it there", ONES)
    refused(TypeError, r"residual \(ndarray\) is on the host", residual=X)
    refused(TypeError, r"out \(ndarray\) is on the host", out=X.copy())
    refused(ValueError, r"gamma has shape \(4, 6, 5\); expected \(6,\)", x)
    refused(
        TypeError, "gamma has dtype float64; expected float32 beside x of float32", library.send(np.ones(6), "float64")
    )
    refused(
        TypeError,
        "gamma has dtype bfloat16; expected float32 beside x of float32",
        library.send(np.zeros(6, np.uint16), "bfloat16"),
    )
    refused(ValueError, "running_var is None; expected both or neither", None, None, mean)
    refused(ValueError, "running_mean overlaps running_var", None, None, mean, mean)
    refused(
        TypeError, "residual has dtype float16; expected x's, float32", residual=library.send(X.astype("f2"), "float16")
    )
    a, b = library.windows(np.zeros(X.size + 1, np.float32), [0, 1], X.shape)
    with pytest.raises(ValueError, match="out overlaps x"):
        nbn.batch_norm(a, ones, None, mean, var, training=True, out=b)
    with pytest.raises(TypeError, match=r"x has dtype .*int32"):
        nbn.batch_norm(library.send(np.ones((3, 2), np.int32), "int32"), training=True)
    with pytest.raises(TypeError, match="gamma lives on a CUDA device, but x does not"):
        nbn.batch_norm(X, ones, training=True)
    with pytest.raises(ValueError, match="backend is 'cpu', but x lives on a CUDA device"):
        nbn.batch_norm(x, training=True, backend="cpu")
    np.testing.assert_array_equal(library.fetch(mean), ONES)
    _, context = nbn.batch_norm_forward(x)
    with pytest.raises(TypeError, match=r"dy \(ndarray\) is on the host"):
        nbn.batch_norm_backward(DY, context)
    with pytest.raises(ValueError, match=r"dy has shape \(6,\)"):
        nbn.batch_norm_backward(ones, context)
    with pytest.raises(ValueError, match="out for dx overlaps x"):
        nbn.batch_norm_backward(send(library, DY), context, out=x)


def test_elements_that_are_not_aligned_are_refused():
    """A card would stop at reading such."""
    packed = np.zeros(7, np.dtype([("a", "<f4"), ("b", "<i2")]))["a"]
    shifted = np.zeros(29, np.uint8)[1:].view(np.float32)
    for array in (packed, shifted):
        with pytest.raises(ValueError, match="x is not aligned; expected elements at multiples of their 4 bytes"):
            nbn.batch_norm(Array(array, "float32"), training=True, axis=0)


def test_what_is_no_array_and_unknown_dtypes_are_refused_by_name():
    x, odd = Array(X, "float32"), Array(ONES, "float32")
    odd.__cuda_array_interface__["typestr"] = "<z4"
    with pytest.raises(TypeError, match="gamma: data type '<z4' not understood"):
        nbn.batch_norm(x, odd, training=True)
    with pytest.raises(TypeError, match=r"gamma .*expected an array of x's library|gamma .* is on the host"):
        nbn.batch_norm(x, 1.5, training=True)


def test_a_view_of_negatives_is_refused():
    kind = next((kind for kind in KINDS if isinstance(kind, Torch)), None) or pytest.skip("there are no tensors here")
    x = kind.torch.randn(8, 5, dtype=kind.torch.complex64, device=kind.device).conj().imag
    with pytest.raises(TypeError, match=r"x is a view of another tensor's negative; .*resolve_neg"):
        nbn.batch_norm(kind.claim(x), training=True)
