"""numbabn beside PyTorch in float64, on random inputs: outputs, gradients and running statistics.

Errors are relative, channel by channel: of y and dx to their largest magnitude (of y before the ReLU, which may leave
next to nothing of a channel); of dgamma and dbeta to their own or, where a sum cancels by chance, to the root of the
sum of squared dy, which is what sums of as many terms come to; of running statistics to the terms of the weighted mean.
With two values per channel, whose dx cancels to almost nothing, dx is measured by the largest of the terms it sums.
"""

import zlib

import numpy as np
import pytest
from tolerance import check

import numbabn as nbn

torch = pytest.importorskip("torch")

LIMIT = {"float32": 3e-5, "float64": 1e-10}
EPS, MOMENTUM = 1e-5, 0.1

# Name: shape, axis of the channels, and the axes' order in memory where it is not theirs.
LAYOUTS = {
    "nc": ((17, 33), 1, None),
    "nc_4099_columns": ((33, 4099), 1, None),
    "nc_1025_rows": ((1025, 65), 1, None),
    "nc_one_channel": ((1025, 1), 1, None),
    "nc_two_rows": ((2, 65), 1, None),
    "ncl": ((5, 3, 17), 1, None),
    "ncl_4099_long": ((3, 5, 4099), 1, None),
    "ncl_1025_outer": ((1025, 3, 7), 1, None),
    "nchw": ((3, 65, 7, 13), 1, None),
    "nchw_one_channel": ((5, 1, 33, 17), 1, None),
    "nchw_one_spatial_element": ((13, 65, 1, 1), 1, None),
    "nchw_two_values": ((2, 3, 1, 1), 1, None),
    "ncdhw": ((3, 5, 7, 3, 13), 1, None),
    "nlc": ((5, 17, 65), -1, None),
    "nhwc": ((3, 7, 13, 65), -1, None),
    "nhwc_three_channels": ((5, 33, 17, 3), -1, None),
    "nhwc_one_channel": ((5, 33, 17, 1), -1, None),
    "ndhwc": ((3, 5, 7, 3, 33), -1, None),
    "nchw_as_nhwc_in_memory": ((3, 65, 7, 13), 1, (0, 2, 3, 1)),
    "ncdhw_as_ndhwc_in_memory": ((3, 5, 7, 3, 13), 1, (0, 2, 3, 4, 1)),
    "axis_0": ((33, 7, 13), 0, None),
    "axis_2_of_4": ((3, 7, 5, 13), 2, None),
}
FUSED = {"plain": (None, False), "relu": ("relu", False), "residual": (None, True), "residual_relu": ("relu", True)}

LARGE_MEAN = {"float32": (1e4, 0.01), "float64": (1e4, 1.0)}
"""Mean and deviation. At 1e4 +- 0.1 PyTorch's own float64 results are off by 9e-11 (against long double): too near the
limit to compare with, so float64 takes a ratio of 1e4."""


def draw(name, dtype, data, with_residual):
    """Random inputs of a layout, in its memory order."""
    shape, axis, order = LAYOUTS[name]
    random = np.random.default_rng(zlib.crc32(f"{name} {dtype} {data}".encode()))
    channels = shape[axis]
    mean, deviation = LARGE_MEAN[dtype] if data == "large_mean" else (0.5, 2.0)

    def normal(shape, mean=0.0, deviation=1.0):
        return (mean + deviation * random.standard_normal(shape)).astype(dtype)

    arrays = {
        "x": normal(shape, mean, deviation),
        "gamma": normal(channels),
        "beta": normal(channels),
        "running_mean": normal(channels, mean, deviation),
        "running_var": (deviation**2 * random.uniform(0.5, 2, channels)).astype(dtype),
        "dy": normal(shape),
        "residual": normal(shape) if with_residual else None,
    }
    for field in ("x", "dy", "residual"):
        if order is not None and arrays[field] is not None:
            arrays[field] = arrays[field].transpose(order).copy().transpose(np.argsort(order))
    return arrays


def torch_results(arrays, axis, training, activation):
    """What PyTorch computes in float64; ``dy`` is first set to 0 where rounding alone decides the ReLU's derivative.

    Returns the results and ``y`` before the ReLU.
    """
    # Each time: Numba's calls set it back. Two pools waiting for work on the same cores cost 60 ms a case, one 1 ms.
    torch.set_num_threads(1)
    doubles = {k: torch.from_numpy(a.astype(np.float64)) for k, a in arrays.items() if a is not None}
    leaves = {k: doubles[k].requires_grad_() for k in ("x", "gamma", "beta", "residual") if k in doubles}
    parameters = [doubles[k] for k in ("running_mean", "running_var", "gamma", "beta")]
    moved = doubles["x"].movedim(axis, 1)
    y = torch.nn.functional.batch_norm(moved, *parameters, training=training, momentum=MOMENTUM, eps=EPS)
    y = y.movedim(1, axis)
    if "residual" in doubles:
        y = y + doubles["residual"]
    before = y.detach()
    if activation == "relu":
        kink = before.abs() < 1e-5
        doubles["dy"][kink] = 0
        arrays["dy"][kink.numpy()] = 0
        y = y.relu()
    gradients = torch.autograd.grad(y, list(leaves.values()), doubles["dy"])
    results = {"y": y} | {f"d{k}": g for k, g in zip(leaves, gradients, strict=True)}
    results |= {k: doubles[k] for k in ("running_mean", "running_var")}
    return {k: tensor.detach().numpy() for k, tensor in results.items()}, before.numpy()


def numbabn_results(arrays, axis, training, activation):
    a = arrays
    running = a["running_mean"].copy(), a["running_var"].copy()
    options = {"training": training, "momentum": MOMENTUM, "eps": EPS, "axis": axis}
    y, context = nbn.batch_norm_forward(
        a["x"], a["gamma"], a["beta"], *running, **options, activation=activation, residual=a["residual"], backend="cpu"
    )
    gradients = nbn.batch_norm_backward(a["dy"], context)
    results = {"y": y} | gradients._asdict() | dict(zip(("running_mean", "running_var"), running, strict=True))
    return {k: array for k, array in results.items() if array is not None}


def scales(arrays, expected, before, axis, training):
    """What each result's error is measured by."""
    others = tuple(a for a in range(before.ndim) if a != axis % before.ndim)

    def largest(array):
        return np.abs(array).max(axis=others, keepdims=True)

    passed = expected.get("dresidual", arrays["dy"])
    typical = np.sqrt(np.square(passed, dtype=np.float64).sum(axis=others))
    scale = {k: np.maximum(np.abs(expected[k]), typical) for k in ("dgamma", "dbeta")}
    scale |= {k: np.maximum(np.abs(expected[k]), np.abs(arrays[k])) for k in ("running_mean", "running_var")}
    scale |= {k: largest(expected[k]) for k in ("dx", "dresidual") if k in expected}
    scale["y"] = largest(before)
    if training and arrays["x"].size == 2 * arrays["gamma"].size:
        # Two values per channel: xhat is +-1 up to eps/var, and the three terms of dx cancel to something tiny beside
        # each of them. One rounding error is then measured by the terms.
        invstd = 1 / np.sqrt(arrays["x"].astype(np.float64).var(axis=others, keepdims=True) + EPS)
        scale["dx"] = np.abs(arrays["gamma"].reshape(invstd.shape)) * invstd * largest(arrays["dy"])
    return scale


@pytest.mark.parametrize("data", ["centred", "large_mean"])
@pytest.mark.parametrize("fused", FUSED)
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("name", LAYOUTS)
def test_parity(name, dtype, training, fused, data):
    activation, with_residual = FUSED[fused]
    axis = LAYOUTS[name][1]
    arrays = draw(name, dtype, data, with_residual)
    expected, before = torch_results(arrays, axis, training, activation)
    actual = numbabn_results(arrays, axis, training, activation)
    assert actual.keys() == expected.keys()
    scale = scales(arrays, expected, before, axis, training)
    for field, array in actual.items():
        assert array.dtype == dtype, field
        check(field, array, expected[field], scale[field], LIMIT[dtype])
