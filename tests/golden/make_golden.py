"""Write pytorch.npz, keras.npz and onnx.npz beside this file: batch norm as those three libraries compute it.

Run it where torch, keras with tensorflow, and onnx are installed: ``python tests/golden/make_golden.py [library ...]``.
The files come out the same, byte for byte, from run to run; commit them together with a change here.

Arrays are named ``case/field``. Inputs (x, gamma, beta, running_mean, running_var, residual, dy) are float32, so that
they are exact in both dtypes under test. Results (y, dx, dgamma, dbeta, dresidual, new_running_mean, new_running_var)
are computed by the library in float64 from them and stored so. A field is missing where the case has none.
ONNX's own float32 results are ``published_*``. The 0-d string ``case/meta`` holds JSON: the arguments in numbabn's
convention, the layout, and the versions used.
"""

import dataclasses
import io
import json
import os
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
LIMIT = 200_000
"""Largest size of one file in bytes."""

META = ("layout", "memory", "axis", "training", "momentum", "eps", "correction", "activation")
"""What of a case goes into its meta; the rest can be seen from which fields it has."""

KINK = 1e-5
"""No pre-activation lies nearer to zero than this: there rounding alone would decide the ReLU's derivative."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What to compute. ``momentum`` is the weight of the new batch, whatever the library calls it."""

    name: str
    layout: str
    shape: tuple[int, ...]
    training: bool = True
    activation: str | None = None
    residual: bool = False
    gamma: bool = True
    beta: bool = True
    track: bool = True
    backward: bool = True
    momentum: float = 0.1
    eps: float = 1e-5
    correction: int = 1
    memory: str = "C"
    data: str = "plain"

    @property
    def axis(self):
        return -1 if self.layout.endswith("C") else self.layout.index("C")

    @property
    def channels(self):
        return self.shape[self.axis]


PYTORCH = [
    Case("nc", "NC", (13, 7)),
    Case("ncl", "NCL", (5, 3, 7)),
    Case("nchw", "NCHW", (2, 5, 3, 7)),
    Case("ncdhw", "NCDHW", (2, 3, 3, 3, 5)),
    Case("nlc", "NLC", (5, 7, 3)),
    Case("nhwc", "NHWC", (2, 3, 5, 7)),
    Case("ndhwc", "NDHWC", (2, 2, 3, 3, 3)),
    Case("nchw_channels_last_memory", "NCHW", (2, 7, 3, 5), activation="relu", residual=True, memory="channels_last"),
    Case("axis_0", "CN", (3, 17)),
    Case("axis_2_of_4", "NHCW", (3, 2, 5, 3)),
    Case("nc_inference", "NC", (5, 13), training=False),
    Case("nchw_inference", "NCHW", (2, 5, 3, 3), training=False),
    Case("nhwc_inference_relu", "NHWC", (2, 3, 5, 3), training=False, activation="relu"),
    Case("nchw_inference_residual_relu", "NCHW", (2, 3, 5, 3), training=False, activation="relu", residual=True),
    Case("nc_inference_one_row", "NC", (1, 17), training=False),
    Case("nchw_relu", "NCHW", (2, 5, 3, 5), activation="relu"),
    Case("nchw_residual_relu", "NCHW", (3, 5, 3, 3), activation="relu", residual=True),
    Case("nhwc_residual_relu", "NHWC", (2, 3, 3, 7), activation="relu", residual=True),
    Case("nchw_residual", "NCHW", (2, 3, 5, 3), residual=True),
    Case("ncl_no_affine", "NCL", (5, 7, 3), gamma=False, beta=False),
    Case("nlc_no_affine_relu", "NLC", (7, 5, 3), gamma=False, beta=False, activation="relu"),
    Case("nchw_no_gamma", "NCHW", (3, 3, 5, 3), gamma=False),
    Case("nc_no_beta", "NC", (17, 5), beta=False),
    Case("nchw_not_tracked", "NCHW", (3, 5, 3, 1), track=False),
    Case("nc_large_mean", "NC", (33, 5), data="large_mean", momentum=1.0),
    Case("nchw_large_mean_relu", "NCHW", (3, 3, 5, 3), data="large_mean", momentum=1.0, activation="relu"),
    Case("nchw_one_spatial_element", "NCHW", (17, 5, 1, 1)),
    Case("nchw_one_channel", "NCHW", (3, 1, 5, 7), momentum=0.3, eps=1e-3),
    Case("nc_one_channel", "NC", (33, 1)),
    Case("nc_zero_variance", "NC", (13, 3), data="zero_variance"),
    Case("nchw_zero_variance", "NCHW", (2, 3, 5, 3), data="zero_variance"),
    Case("nc_nan", "NC", (7, 5), data="nan"),
    Case("nchw_nan", "NCHW", (2, 3, 3, 5), data="nan"),
    # At NaN PyTorch's ReLU lets the gradient through (TensorFlow's stops it): dbeta is then finite.
    Case("nchw_nan_relu", "NCHW", (2, 3, 3, 5), data="nan", activation="relu"),
]

# Keras has its axis last, eps 1e-3, and momentum 0.99 as the weight of the *old* value. Its layer (3.15) takes its
# statistics from tf.nn.moments in float32 and float64 alike: the graph holds Mean and SquaredDifference, no
# FusedBatchNormV3, so the running variance is biased. TensorFlow's fused operator itself returns the unbiased variance
# (30/29 of the biased one for 30 values) and takes no float64 at all.
# No large mean here: tf.nn.batch_normalization folds the mean into the shift, which at 1e4 +- 0.01 costs it six of
# float64's sixteen digits.
_keras = {"momentum": 1 - 0.99, "eps": 1e-3, "correction": 0}
KERAS = [
    Case("nc", "NC", (17, 5), **_keras),
    Case("nlc", "NLC", (5, 7, 3), **_keras),
    Case("nhwc", "NHWC", (3, 5, 3, 7), **_keras),
    Case("ndhwc", "NDHWC", (2, 3, 3, 5, 3), **_keras),
    Case("nchw", "NCHW", (3, 5, 7, 3), **_keras),
    Case("nhwc_inference", "NHWC", (3, 5, 3, 5), training=False, **_keras),
    Case("nc_inference_relu", "NC", (5, 13), training=False, activation="relu", **_keras),
    Case("nhwc_relu", "NHWC", (3, 5, 5, 3), activation="relu", **_keras),
    Case("nhwc_residual_relu", "NHWC", (3, 3, 5, 7), activation="relu", residual=True, **_keras),
    Case("nlc_no_affine", "NLC", (5, 3, 7), gamma=False, beta=False, **_keras),
    Case("nhwc_one_spatial_element", "NHWC", (13, 1, 1, 5), **_keras),
    Case("nhwc_one_channel", "NHWC", (3, 7, 5, 1), **_keras),
    Case("nhwc_zero_variance", "NHWC", (3, 3, 5, 3), data="zero_variance", **_keras),
    Case("nhwc_nan", "NHWC", (3, 5, 3, 3), data="nan", **_keras),
]


def make_inputs(case):
    """The arrays of a case, drawn from its name alone: adding a case changes no other."""
    random = np.random.default_rng(zlib.crc32(case.name.encode()))

    def normal(shape):
        return random.standard_normal(shape).astype(np.float32)

    x = normal(case.shape)
    channels_first = np.moveaxis(x, case.axis, 0)
    if case.data == "large_mean":
        x[...] = np.float32(1e4) + np.float32(0.01) * x
    elif case.data == "zero_variance":
        channels_first[1] = np.float32(0.1)  # not a binary fraction: its mean is inexact unless summed with care
    elif case.data == "nan":
        channels_first[(1,) + (0,) * (x.ndim - 1)] = np.nan
    arrays = {"x": x}
    if case.gamma:
        arrays["gamma"] = normal(case.channels)
    if case.beta:
        arrays["beta"] = normal(case.channels)
    if case.track:
        arrays["running_mean"] = normal(case.channels)
        arrays["running_var"] = random.uniform(0.5, 2, case.channels).astype(np.float32)
    if case.residual:
        arrays["residual"] = normal(case.shape)
    if case.backward:
        arrays["dy"] = normal(case.shape)
    return arrays


def check_kinks(name, pre_activation):
    """Raise where a pre-activation is too near to the ReLU's kink (NaN is not)."""
    if (np.abs(pre_activation) < KINK).any():
        raise ValueError(f"case {name!r} has a pre-activation within {KINK} of zero: change its shape or name")


def run_pytorch(case, arrays):
    """Results of torch.nn.functional.batch_norm and autograd in float64."""
    import torch

    tensors = {name: torch.from_numpy(array.astype(np.float64)) for name, array in arrays.items()}
    leaves = {n: tensors[n].requires_grad_() for n in ("x", "gamma", "beta", "residual") if n in tensors}
    y = torch.nn.functional.batch_norm(
        tensors["x"].movedim(case.axis, 1),
        tensors.get("running_mean"),
        tensors.get("running_var"),
        tensors.get("gamma"),
        tensors.get("beta"),
        training=case.training,
        momentum=case.momentum,
        eps=case.eps,
    ).movedim(1, case.axis)
    if case.residual:
        y = y + tensors["residual"]
    if case.activation == "relu":
        check_kinks(case.name, y.detach().numpy())
        y = y.relu()
    results = {"y": y}
    if case.backward:
        gradients = torch.autograd.grad(y, list(leaves.values()), tensors["dy"])
        results.update({f"d{name}": value for name, value in zip(leaves, gradients, strict=True)})
    if case.track:
        results.update({f"new_{name}": tensors[name] for name in ("running_mean", "running_var")})
    return {name: value.detach().contiguous().numpy() for name, value in results.items()}


def run_keras(case, arrays):
    """Results of keras.layers.BatchNormalization in float64 and a gradient tape."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf

    layer = keras.layers.BatchNormalization(
        case.axis, momentum=1 - case.momentum, epsilon=case.eps, center=case.beta, scale=case.gamma, dtype="float64"
    )
    layer.build(case.shape)
    weights = {"gamma": layer.gamma, "beta": layer.beta}
    weights |= {"running_mean": layer.moving_mean, "running_var": layer.moving_variance}
    weights = {name: variable for name, variable in weights.items() if variable is not None}
    for name, variable in weights.items():
        variable.assign(arrays[name])
    tensors = {n: tf.constant(arrays[n], tf.float64) for n in ("x", "residual", "dy") if n in arrays}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = layer(tensors["x"], training=case.training)
        if case.residual:
            y = y + tensors["residual"]
        if case.activation == "relu":
            check_kinks(case.name, y.numpy())
            y = tf.nn.relu(y)
    leaves = {n: tensors[n] for n in ("x", "residual") if n in tensors}
    leaves |= {n: weights[n].value for n in ("gamma", "beta") if n in weights}
    gradients = tape.gradient(y, list(leaves.values()), output_gradients=tensors["dy"])
    results = {"y": y} | {f"d{name}": value for name, value in zip(leaves, gradients, strict=True)}
    results |= {f"new_{name}": weights[name].value for name in ("running_mean", "running_var")}
    return {name: value.numpy() for name, value in results.items()}


def onnx_cases():
    """The operator's published cases, as ``(case, inputs, results)``.

    The published results are float32 (``published_*``); ONNX's reference evaluator, fed the same inputs in float64,
    gives the digits that float64 needs. ONNX defines no gradients.
    """
    from onnx import defs, helper
    from onnx.backend.test.case.node import collect_testcases
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings(action="ignore"):  # runs the makers of all operators' cases, some of which warn
        collected = collect_testcases("BatchNormalization")
    for published in collected:
        node = published.model.graph.node[0]
        # ONNX keeps attributes in float32: its 0.9 is 0.89999998, which float64 results show.
        attributes = {n: a.default_value.f for n, a in defs.get_schema(node.op_type).attributes.items()}
        attributes |= {a.name: helper.get_attribute_value(a) for a in node.attribute}
        ((arrays, expected),) = published.data_sets
        inputs = dict(zip(("x", "gamma", "beta", "running_mean", "running_var"), arrays, strict=True))
        outputs = dict(zip(("y", "new_running_mean", "new_running_var"), expected, strict=False))
        case = Case(
            name=published.name.removeprefix("test_batchnorm_"),
            layout="NCHW",
            shape=inputs["x"].shape,
            training=bool(attributes["training_mode"]),
            backward=False,
            momentum=1 - attributes["momentum"],  # ONNX weighs the old value
            eps=attributes["epsilon"],
            correction=0,
        )
        doubles = {name: inputs[field].astype(np.float64) for name, field in zip(node.input, inputs, strict=True)}
        results = dict(zip(outputs, ReferenceEvaluator(node).run(None, doubles), strict=True))
        results |= {f"published_{name}": array for name, array in outputs.items()}
        yield case, inputs, results


def write(library, computed, versions):
    """Write ``library.npz`` from ``(case, inputs, results)`` triples."""
    arrays = {}
    for case, inputs, results in computed:
        meta = {name: getattr(case, name) for name in META} | {"versions": versions}
        arrays[f"{case.name}/meta"] = np.array(json.dumps(meta))
        arrays |= {f"{case.name}/{field}": array for field, array in (inputs | results).items()}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    size = file.tell()
    if size > LIMIT:
        raise ValueError(f"{library}.npz would have {size} bytes, more than {LIMIT}: use smaller cases")
    (FOLDER / f"{library}.npz").write_bytes(file.getvalue())
    print(f"{library}.npz: {sum(key.endswith('/meta') for key in arrays)} cases, {size} bytes")


def make_pytorch():
    import torch

    computed = ((case, arrays, run_pytorch(case, arrays)) for case in PYTORCH for arrays in [make_inputs(case)])
    write("pytorch", computed, {"torch": torch.__version__})


def make_keras():
    import keras
    import tensorflow as tf

    computed = ((case, arrays, run_keras(case, arrays)) for case in KERAS for arrays in [make_inputs(case)])
    write("keras", computed, {"keras": keras.__version__, "tensorflow": tf.__version__})


def make_onnx():
    import onnx

    write("onnx", onnx_cases(), {"onnx": onnx.__version__})


if __name__ == "__main__":
    makers = {"pytorch": make_pytorch, "keras": make_keras, "onnx": make_onnx}
    for library in sys.argv[1:] or makers:
        makers[library]()
