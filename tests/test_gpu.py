"""The CUDA backend on a card: ``pytest -m gpu``. Skipped where there is none.

Needs nothing but pytest, NumPy, numba-cuda, and PyTorch or CuPy, whichever is there.
"""

import numpy as np
import pytest
from cases import CASES, EPILOGUES, Case, encoded, operands

import numbabn as nbn

if not nbn.backends()["cuda"].available:
    pytest.skip("no CUDA device", allow_module_level=True)

from device_arrays import *  # noqa: F403 (the same tests as in the simulator)
from kinds import KINDS, CuPy, Torch, ways_met
from test_backends import check_against_specification

from numbabn.backends.cuda import toolkit

pytestmark = pytest.mark.gpu
with_torch, with_cupy = (
    pytest.mark.skipif(kind not in map(type, KINDS), reason=f"{kind.__name__} has no arrays on this card")
    for kind in (Torch, CuPy)
)

CASES = [
    *CASES,
    Case("NCL-short-rows", (700, 3, 5)),  # which no vector of 16 bytes fits
    Case("NCHW-turns", (40, 33, 28, 28)),  # more teams than there is room for at a time
    Case("NHWC-turns", (24, 28, 28, 264), axis=-1),
]


def test_cases_meet_all_ways_to_launch(way):
    if toolkit.card(0).multiprocessors < 64:
        pytest.skip("teams of so few multiprocessors hold less")
    met = ways_met(CASES)
    for family, widths in (("planes", ("narrow", "wide", "ragged")), ("rows", ("narrow", "wide"))):
        if way == "in teams":
            assert met[family] >= {(width, "held", True) for width in widths}
        else:
            assert {width for width, held, _ in met[family] if held == ("held" if way == "as planned" else "read")} >= {
                *widths
            }


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize(("activation", "with_residual"), EPILOGUES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_matches_specification(case, dtype, activation, with_residual, training, library):
    form = {"training": training, "activation": activation, "with_residual": with_residual}
    check_against_specification(case, dtype, kind=library, **form)


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("with_residual", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_ways_match_the_specification(case, dtype, with_residual, training, way):
    form = {"training": training, "activation": "relu", "with_residual": with_residual}
    check_against_specification(case, dtype, kind=KINDS[0], **form)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_arrays_of_the_host_are_carried(case, dtype):
    check_against_specification(case, dtype, "cuda", training=True, activation="relu", with_residual=True)


@pytest.mark.parametrize("name", ["NCHW-many-runs", "NC-one-channel", "NC-65", "NCHW-channels-last"])
def test_a_hundred_runs_are_bitwise_the_same(name, library, way):
    case = next(case for case in CASES if case.name == name)
    given = operands(case)
    x, dy = (library.send(case.place(encoded(values, "float32")), "float32") for values in (given.x, given.dy))

    def results():
        y, context = nbn.batch_norm_forward(x, axis=case.axis, activation="relu")
        grads = nbn.batch_norm_backward(dy, context)
        return [library.fetch(value) for value in (y, context.mean, context.var, grads.dx)]

    first = results()
    for _ in range(100):
        for one, other in zip(results(), first, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(20, 3, 784), (3000, 8)])
def test_a_small_array_between_large_ones_takes_nothing_from_them(shape, library):
    """One kernel serves both, with more and with less on chip."""
    rng = np.random.default_rng(0)
    large = library.send(rng.standard_normal(shape).astype(np.float32), "float32")
    small = library.send(rng.standard_normal((2, *shape[1:])).astype(np.float32), "float32")
    before = library.fetch(nbn.batch_norm(large, training=True))
    nbn.batch_norm(small, training=True)
    np.testing.assert_array_equal(library.fetch(nbn.batch_norm(large, training=True)), before)


@with_torch
def test_kernels_run_on_the_current_stream_of_pytorch():
    """On a stream that is busy, results are those of what it was busy with, and nothing waits."""
    import torch

    x = torch.randn(64, 32, 56, 56, device="cuda")
    expected = nbn.batch_norm(2.0 * x, training=True)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(int(1e8))
        doubled = 2.0 * x
        y = nbn.batch_norm(doubled, training=True)
        assert not stream.query()  # nothing has waited for the device
    stream.synchronize()
    torch.testing.assert_close(y, expected, rtol=0, atol=0)


@with_torch
def test_launches_are_recorded_in_cuda_graphs(way):
    """And played as often as one likes, while others run on the stream that they were recorded on."""
    import torch

    from numbabn.backends.cuda import counters

    x = torch.randn(64, 32, 28, 28, device="cuda")

    def both():
        y, context = nbn.batch_norm_forward(x)
        return y, nbn.batch_norm_backward(x, context).dx

    graph, stream, player = torch.cuda.CUDAGraph(), torch.cuda.Stream(), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        both()  # compiles
    torch.cuda.synchronize()
    kept = dict(counters._KEPT)
    with torch.cuda.graph(graph, stream=stream):
        recorded = both()
    assert kept == counters._KEPT  # recording in teams keeps none
    for _ in range(3):
        x.copy_(torch.randn_like(x) + 1)
        torch.cuda.synchronize()
        for one in (stream, player):
            with torch.cuda.stream(one):
                torch.cuda._sleep(20_000_000)  # clocks, some 10 ms: until all of both is queued
        for _ in range(20):
            with torch.cuda.stream(player):
                graph.replay()
            with torch.cuda.stream(stream):
                expected = both()
        torch.cuda.synchronize()
        for one, other in zip(recorded, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@with_cupy
def test_kernels_run_on_the_current_stream_of_cupy():
    import cupy

    x = cupy.random.default_rng(0).standard_normal((64, 32, 56, 56), dtype=cupy.float32)
    expected = nbn.batch_norm(2 * x, training=True)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        y = nbn.batch_norm(2 * x, training=True)
        stream.synchronize()
    cupy.testing.assert_array_equal(y, expected)


@with_torch
@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("shape", [(3, 64, 3345, 3345), (17_000, 2, 256, 257)], ids=str)
def test_more_than_two_to_the_31_elements(shape, channels_last):
    """The last image is another one than the first: what wraps around would meet it."""
    import torch

    assert np.prod(shape) > 2**31
    if torch.cuda.mem_get_info()[0] < 40e9:
        pytest.skip("takes 40 GB of the device's memory")
    memory = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(shape, device="cuda", dtype=torch.float16).to(memory_format=memory)
    x[-1] = x[-1] * 3 + 1
    dy = torch.randn_like(x)
    y, context = nbn.batch_norm_forward(x)
    grads = nbn.batch_norm_backward(dy, context)
    mean = torch.stack([image.double().mean((1, 2)) for image in x]).mean(0)
    var = torch.stack([((image.double() - mean[:, None, None]) ** 2).mean((1, 2)) for image in x]).mean(0)
    torch.testing.assert_close(context.mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(context.var.double(), var, rtol=1e-4, atol=1e-5)
    for image in (0, -1):
        xhat = (x[image].double() - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        torch.testing.assert_close(y[image].double(), xhat, rtol=2e-3, atol=2e-3)
        terms = grads.dx[image].double() * (var[:, None, None] + 1e-5).sqrt()
        torch.testing.assert_close(terms, dy[image].double(), rtol=1e-2, atol=1e-2)  # the means of dy are about 0


@with_torch
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_agrees_with_pytorch(dtype, way):
    import torch

    x, dy = (torch.randn(16, 24, 14, 14, device="cuda", dtype=getattr(torch, dtype)) for _ in range(2))
    gamma, beta = (torch.randn(24, device="cuda") for _ in range(2))
    running = [torch.zeros(24, device="cuda"), torch.ones(24, device="cuda")]
    theirs = [value.clone() for value in running]
    y, context = nbn.batch_norm_forward(x, gamma, beta, *running, activation="relu")
    grads = nbn.batch_norm_backward(dy, context)
    inputs = [value.detach().requires_grad_() for value in (x, gamma, beta)]
    expected = torch.relu(torch.nn.functional.batch_norm(inputs[0], *theirs, *inputs[1:], True, 0.1, 1e-5))
    dx, dgamma, dbeta = torch.autograd.grad(expected, inputs, dy)
    loose = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}[dtype]
    for one, other in ((y, expected), (grads.dx, dx), (grads.dgamma, dgamma), (grads.dbeta, dbeta)):
        error = torch.linalg.vector_norm(one.double() - other.double()) / torch.linalg.vector_norm(other.double())
        assert error <= loose
    torch.testing.assert_close(running, theirs, rtol=1e-4, atol=1e-5)


@with_torch
def test_a_tensor_that_requires_a_gradient_is_refused():
    import torch

    x = torch.randn(4, 3, 5, device="cuda", requires_grad=True)
    with pytest.raises(TypeError, match=r"x requires a gradient, .* \.detach\(\)"):
        nbn.batch_norm(x, training=True)
    with pytest.raises(TypeError, match="gamma requires a gradient"):
        nbn.batch_norm(x.detach(), torch.nn.Parameter(torch.ones(3, device="cuda")), training=True)
