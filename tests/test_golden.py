"""numbabn against what PyTorch, Keras and ONNX computed, kept in golden/*.npz by golden/make_golden.py.

Errors are relative: of data, to the largest magnitude in the same channel; of a parameter's gradient, to that of all
channels (one channel's sum may cancel to nearly nothing); of running statistics, to the terms of the weighted mean.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from tolerance import check

import numbabn as nbn

GOLDEN = Path(__file__).parent / "golden"
LIMIT = {"float32": 3e-5, "float64": 1e-10}
RUNNING = ("running_mean", "running_var")


def load(library):
    """``{"library-case": {field: array}}`` of one file."""
    cases = {}
    with np.load(GOLDEN / f"{library}.npz", allow_pickle=False) as file:
        for key in file.files:
            name, field = key.split("/")
            cases.setdefault(f"{library}-{name}", {})[field] = file[key]
    return cases


CASES = {name: case for library in ("pytorch", "keras", "onnx") for name, case in load(library).items()}
WITH_GRADIENTS = [name for name, case in CASES.items() if "dy" in case]


def arguments(case, dtype):
    """Positional and keyword arguments of a call, and dy; arrays are fresh, in the case's dtype and memory order."""
    meta = json.loads(case["meta"].item())

    def array(field):
        if field not in case:
            return None
        fresh = case[field].astype(dtype)
        if meta["memory"] == "channels_last" and fresh.ndim > 1:
            return np.moveaxis(np.moveaxis(fresh, 1, -1).copy(), -1, 1)
        return fresh

    positional = [array(field) for field in ("x", "gamma", "beta", *RUNNING)]
    names = ("training", "momentum", "eps", "axis", "correction", "activation")
    keywords = {name: meta[name] for name in names} | {"residual": array("residual")}
    return positional, keywords, array("dy")


def largest(array, axis):
    """Largest magnitude in each channel, NaN aside, in a shape that broadcasts against ``array``."""
    others = tuple(a for a in range(array.ndim) if a != axis % array.ndim)
    return np.max(np.abs(array), axis=others, keepdims=True, where=~np.isnan(array), initial=0.0)


def check_running(case, running, keywords, dtype):
    """Running statistics are updated in training and left alone in inference."""
    for field, actual in zip(RUNNING, running, strict=True):
        if actual is None:
            continue
        if not keywords["training"]:
            np.testing.assert_array_equal(actual, case[field])
            continue
        expected = case[f"new_{field}"]
        assert actual.dtype == dtype
        check(field, actual, expected, np.maximum(np.abs(expected), np.abs(case[field])), LIMIT[dtype])


@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", CASES)
def test_forward(name, backend, dtype):
    case = CASES[name]
    positional, keywords, _ = arguments(case, dtype)
    y = nbn.batch_norm(*positional, **keywords, backend=backend)
    assert y.dtype == dtype
    check("y", y, case["y"], largest(case["y"], keywords["axis"]), LIMIT[dtype])
    check_running(case, positional[3:], keywords, dtype)


@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_backward(name, backend, dtype):
    case = CASES[name]
    positional, keywords, dy = arguments(case, dtype)
    y, context = nbn.batch_norm_forward(*positional, **keywords, backend=backend)
    check("y", y, case["y"], largest(case["y"], keywords["axis"]), LIMIT[dtype])
    check_running(case, positional[3:], keywords, dtype)
    for field, actual in nbn.batch_norm_backward(dy, context)._asdict().items():
        if field not in case:
            assert actual is None, field
            continue
        expected = case[field]
        scale = largest(expected, keywords["axis"]) if expected.ndim > 1 else np.nanmax(np.abs(expected))
        assert actual.dtype == dtype, field
        check(field, actual, expected, scale, LIMIT[dtype])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("onnx-")])
def test_onnx_as_published(name, backend):
    """The numbers that ONNX itself publishes, in float32 only."""
    case = CASES[name]
    positional, keywords, _ = arguments(case, "float32")
    results = {"y": nbn.batch_norm(*positional, **keywords, backend=backend)}
    results |= {f"new_{field}": array for field, array in zip(RUNNING, positional[3:], strict=True)}
    published = {field: case[f"published_{field}"] for field in results if f"published_{field}" in case}
    assert len(published) == (3 if keywords["training"] else 1)
    for field, expected in published.items():
        axis = keywords["axis"] if expected.ndim > 1 else 0
        check(field, results[field], expected, largest(expected, axis), LIMIT["float32"])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", ["pytorch-nc_large_mean", "pytorch-nchw_large_mean_relu"])
def test_variance_of_a_large_mean(name, backend):
    """A float32 column at 1e4 +- 0.01 keeps its variance: momentum is 1 here, so the running one is the batch's."""
    case = CASES[name]
    (x, *_), keywords, _ = arguments(case, "float32")
    stats = nbn.batch_stats(x, axis=keywords["axis"], backend=backend)
    unbiased = stats.var * stats.count / (stats.count - 1)
    np.testing.assert_allclose(unbiased, case["new_running_var"], rtol=1e-3)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if np.isnan(case["x"]).any()])
def test_nan_cases_hold_one_bad_channel(name):
    """What the libraries say of NaN is what this package promises: it reaches its own channel and no other."""
    case = CASES[name]
    axis = json.loads(case["meta"].item())["axis"]
    for field in ("y", "dx"):
        bad = np.isnan(np.moveaxis(case[field], axis, 0)).reshape(case[field].shape[axis], -1)
        assert bad[1].all()
        assert not np.delete(bad, 1, axis=0).any()
