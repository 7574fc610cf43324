"""The CUDA kernels in the simulator, on small arrays that still take several blocks, against the specification."""

from functools import lru_cache

import numpy as np
import pytest
from cases import CASES, EPILOGUES, Case
from kinds import Array, Interface, ways_met
from test_backends import check_against_specification

import numbabn as nbn
from numbabn.backends.cuda import cut, on_device
from numbabn.backends.cuda.simd_simulated import Simulated, load, store
from numbabn.bench.card_systems import Operands, recut
from numbabn.bench.measure import Cell

SMALL = [case for case in CASES if np.prod(case.shape) <= 260] + [
    Case("NC-12", (31, 12)),  # several blocks of a tile
    Case("NC-8", (9, 8)),
    Case("NC-5x8", (5, 8)),  # one block
    Case("NC-3x8", (3, 8)),  # few values, computed in float64
    Case("NC-65", (5, 65)),  # ragged rows
    Case("NC-10", (13, 10)),
    Case("NHWC-8", (3, 2, 3, 8), axis=-1),
    Case("NCHW-8", (9, 2, 2, 4)),  # rows of whole vectors
    Case("NCHW-32", (4, 2, 4, 8)),
    Case("NCL-3", (9, 2, 3)),  # rows of less than a vector
    Case("NCL-5", (3, 4, 5)),
    Case("NCL-7", (11, 2, 7)),
    Case("NCL-9", (9, 2, 9)),  # ragged rows of several vectors
    Case("NCL-one-row", (1, 2, 9)),
    Case("NCHW-3x3", (5, 3, 3, 3)),
    Case("F", (3, 4, 5, 3), memory="F"),
]


def test_small_cases_meet_all_ways_to_launch(way):
    met = ways_met(SMALL)
    widths = "narrow", "wide", "ragged"
    if way == "in parts":
        assert met["planes"] == {(width, "read", several) for width in widths for several in (False, True)}
        assert met["rows"] == met["planes"] - {("ragged", "read", False)}
    else:
        assert met["planes"] >= {(width, "held", way == "in teams") for width in widths}
        assert met["rows"] >= {(width, "held", way == "in teams") for width in widths[:2]}


WAYS = [("float32", "as planned"), ("float32", "in teams"), ("float32", "in parts"), ("float64", "in parts")]
SHORT_WAYS = [("float16", "as planned"), ("bfloat16", "as planned"), ("bfloat16", "in teams"), ("float16", "in parts")]


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize(("activation", "with_residual"), EPILOGUES)
@pytest.mark.parametrize(("dtype", "way"), WAYS, indirect=["way"])
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_matches_specification(case, dtype, activation, with_residual, training, way):
    form = {"training": training, "activation": activation, "with_residual": with_residual}
    check_against_specification(case, dtype, kind=Interface(), **form)


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("with_residual", [True, False])
@pytest.mark.parametrize(("dtype", "way"), SHORT_WAYS, indirect=["way"])
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_short_dtypes_match_the_specification(case, dtype, with_residual, training, way):
    form = {"training": training, "activation": "relu", "with_residual": with_residual}
    check_against_specification(case, dtype, kind=Interface(), **form)


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("case", SMALL[::3], ids=lambda case: case.name)
def test_arrays_of_the_host_are_carried(case, dtype, training):
    form = {"training": training, "activation": "relu", "with_residual": True}
    check_against_specification(case, dtype, "cuda", **form)


@pytest.mark.parametrize("shape", [(9, 8), (5, 3, 9), (3, 2, 8)])
def test_a_distant_mean_takes_no_digits(shape, way):
    x = (1e4 + 0.01 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    exact = nbn.batch_stats(x, backend="reference")
    stats = nbn.batch_stats(x, backend="cuda")
    np.testing.assert_allclose(stats.var, exact.var, rtol=1e-5)
    y = nbn.batch_norm(x, training=True, eps=0.0, backend="cuda")
    np.testing.assert_allclose(y, nbn.batch_norm(x, training=True, eps=0.0, backend="reference"), atol=1e-4)


def test_a_negative_running_variance_gives_nan(way):
    x = np.random.default_rng(0).standard_normal((4, 3))
    y = nbn.batch_norm(x, None, None, np.zeros(3), np.array([-1.0, 1.0, 2.0]), backend="cuda")
    assert np.isnan(y[:, 0]).all()
    assert np.isfinite(y[:, 1:]).all()


@pytest.mark.parametrize("shape", [(9, 8), (5, 24), (5, 3, 9), (9, 10), (3, 2, 8)])
def test_nor_does_it_take_any_from_gradients(shape, way):
    rng = np.random.default_rng(0)
    x = (1e4 + 0.01 * rng.standard_normal(shape)).astype(np.float32)
    dy = (1 + rng.standard_normal(shape)).astype(np.float32)
    ones = np.ones(shape[1], np.float32)
    found, exact = (
        nbn.batch_norm_backward(dy, nbn.batch_norm_forward(x, ones, ones, eps=0.0, backend=backend)[1])
        for backend in ("cuda", "reference")
    )
    for name in ("dx", "dgamma", "dbeta"):
        one, other = getattr(found, name), getattr(exact, name)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max(), err_msg=name)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("shape", [(4, 8), (4, 3), (4, 2, 3), (4, 2, 8)])
def test_a_variance_of_zero_without_eps_gives_inf(shape, way):
    x = np.random.default_rng(0).standard_normal(shape)
    zeros, ones = np.zeros(shape[1]), np.ones(shape[1])
    y, context = nbn.batch_norm_forward(x, ones, ones, zeros, zeros, training=False, eps=0.0, backend="cuda")
    np.testing.assert_array_equal(y, np.sign(x) * np.inf)
    np.testing.assert_array_equal(nbn.batch_norm_backward(x, context).dgamma, np.full(shape[1], np.inf))


def test_running_statistics_of_the_host_keep_their_digits():
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    mean, var = np.full(3, 1 / 3), np.full(3, 2 / 3)
    nbn.batch_norm(x, None, None, mean, var, training=True, momentum=1e-12, backend="cuda")
    np.testing.assert_allclose(mean, 1 / 3, rtol=1e-11)
    np.testing.assert_allclose(var, 2 / 3, rtol=1e-11)


@pytest.mark.parametrize("shape", [(9, 8), (5, 3, 9)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_no_number_stays_in_its_channel(shape, value, way):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    clean = nbn.batch_norm(x, training=True, backend="cuda")
    x[2, 1] = value
    y = nbn.batch_norm(x, training=True, backend="cuda")
    assert np.isnan(y[:, 1]).all()
    np.testing.assert_array_equal(np.delete(y, 1, axis=1), np.delete(clean, 1, axis=1))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_dtypes_are_rounded_to_nearest(dtype):
    values = np.array([1.0, 1.001, -3.14159, 1e-3, 0.0, 65000.0, np.inf, np.nan], np.float32)
    memory = Simulated(np.zeros(8, np.float16 if dtype == "float16" else np.uint16), 8, "float32")
    store(memory, 0, values)
    loaded = load(memory, 0)
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, values, rtol=2.0**-11 if dtype == "float16" else 2.0**-8)


def test_arrays_on_another_device_are_refused():
    x = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match="x is on CUDA device 1; expected the current one, CUDA device 0"):
        nbn.batch_norm(Array(x, "float32", device=1), training=True)
    with pytest.raises(ValueError, match="gamma is on CUDA device 1; expected it on x's, CUDA device 0"):
        nbn.batch_norm(Array(x, "float32"), Array(x[0], "float32", device=1), training=True)


def test_empty_batch_and_arrays_that_fit_no_view():
    assert nbn.batch_norm(np.zeros((0, 3, 2)), training=True, backend="cuda").shape == (0, 3, 2)
    x = np.random.default_rng(0).standard_normal((4, 6, 5))[:, ::2]
    expected = nbn.batch_norm(x, training=True, backend="reference")
    np.testing.assert_allclose(nbn.batch_norm(x, training=True, backend="cuda"), expected, atol=1e-12)


def test_the_bench_measures_in_parts_too(monkeypatch):
    launches = []

    @lru_cache
    def launch_for(*arguments):
        launches.append(cut.launch_for.__wrapped__(*arguments))
        return launches[-1]

    monkeypatch.setattr(on_device, "launch_for", launch_for)
    x = np.random.default_rng(0).standard_normal((4, 3, 5, 2)).astype(np.float32)
    given = Operands(*(Interface().send(x, "float32") for _ in range(3)), None, None, None, None)
    system = recut(None)["in parts"]
    with system.chosen():
        assert len(system.call(Cell("backward", "NCHW", "none", x.shape), given)()) == 1
    assert [launch.shared_bytes for launch in launches] == [0, 0]
    nbn.batch_norm(given.x, training=True)
    assert launches[-1].shared_bytes > 0
