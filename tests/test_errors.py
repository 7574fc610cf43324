"""Bad input gets one clear error, and nothing has been written by then."""

from decimal import Decimal

import numpy as np
import pytest

import numbabn as nbn

X = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
OUT = np.zeros_like(X)


class Given:
    """Arguments that fit, and a record of what they held."""

    def __init__(self, training=True):
        self.arguments = {
            "x": X.copy(),
            "gamma": np.ones(3, np.float32),
            "beta": np.zeros(3, np.float32),
            "running_mean": np.full(3, 0.5, np.float32),
            "running_var": np.full(3, 1.5, np.float32),
            "out": np.full_like(X, 7.0),
            "training": training,
        }
        self.before = {k: v.copy() for k, v in self.arguments.items() if isinstance(v, np.ndarray)}

    def check_untouched(self):
        for name, value in self.before.items():
            np.testing.assert_array_equal(self.arguments[name], value, err_msg=name)


def read_only(array):
    array.flags.writeable = False
    return array


def shifted():
    memory = np.zeros(X.size + 5, np.float32)
    return memory[5:].reshape(X.shape), memory[:-5].reshape(X.shape)


FORWARD_ERRORS = {
    "integers": ({"x": np.ones((4, 3, 5), int)}, TypeError, "x has dtype int64; expected float32 or float64"),
    "complex": ({"x": np.ones((4, 3, 5), complex)}, TypeError, "x has dtype complex128"),
    "half": ({"x": X.astype(np.float16)}, TypeError, "x has dtype float16"),
    "swapped-bytes": ({"x": X.astype(">f4")}, TypeError, "native byte order"),
    "masked": ({"x": np.ma.masked_less(X, 0)}, TypeError, "x is a masked array"),
    "no-array": ({"x": None}, TypeError, "x is NoneType; expected an array"),
    "strings": ({"x": np.array([["a"]])}, TypeError, "x has dtype"),
    "scalar": ({"x": np.float32(3)}, ValueError, "x has no dimensions; expected at least one"),
    "axis-outside": ({"axis": 3}, ValueError, "axis is 3, but x has 3 dimensions; expected -3 to 2"),
    "axis-type": ({"axis": 1.0}, TypeError, "axis is 1.0; expected an integer"),
    "gamma-shape": ({"gamma": np.ones(4)}, ValueError, r"gamma has shape \(4,\); expected \(3,\)"),
    "gamma-scalar": ({"gamma": 2.0}, ValueError, r"gamma has shape \(\); expected \(3,\)"),
    "gamma-dtype": ({"gamma": np.ones(3, int)}, TypeError, "gamma has dtype int64"),
    "beta-shape": ({"beta": np.ones((3, 1))}, ValueError, r"beta has shape \(3, 1\)"),
    "mean-shape": ({"running_mean": np.ones(2)}, ValueError, r"running_mean has shape \(2,\)"),
    "mean-alone": ({"running_var": None}, ValueError, "running_var is None; expected both or neither"),
    "var-alone": ({"running_mean": None}, ValueError, "running_mean is None; expected both or neither"),
    "mean-list": ({"running_mean": [0.0, 0.0, 0.0]}, TypeError, "running_mean is list; expected a NumPy array"),
    "mean-integers": ({"running_mean": np.zeros(3, int)}, TypeError, "running_mean has dtype int64"),
    "var-read-only": ({"running_var": read_only(np.ones(3))}, ValueError, "running_var is read-only"),
    "mean-broadcast": ({"running_mean": np.broadcast_to(np.zeros(1), 3)}, ValueError, "running_mean is"),
    "eps-negative": ({"eps": -1e-5}, ValueError, "eps is -1e-05; expected a number at least 0, finite"),
    "eps-nan": ({"eps": np.nan}, ValueError, "eps is nan"),
    "eps-inf": ({"eps": np.inf}, ValueError, "eps is inf"),
    "eps-text": ({"eps": "small"}, TypeError, "eps is 'small'; expected a number"),
    "momentum-high": ({"momentum": 1.1}, ValueError, "momentum is 1.1; expected a number from 0 to 1"),
    "momentum-negative": ({"momentum": -0.1}, ValueError, "momentum is -0.1"),
    "momentum-decimal": ({"momentum": Decimal("0.1")}, TypeError, "momentum is Decimal"),
    "eps-array": ({"eps": np.array([1e-5])}, TypeError, "eps is array"),
    "training-text": ({"training": "no"}, TypeError, "training is 'no'; expected True or False"),
    "axis-bool": ({"axis": True}, TypeError, "axis is True; expected an integer"),
    "ragged": ({"x": [[1.0], [1.0, 2.0]]}, TypeError, "x cannot be made an array"),
    "mean-in-out": ({"running_mean": OUT[0, :, 0], "out": OUT}, ValueError, "running_mean overlaps out"),
    "var-in-x": ({"running_var": OUT[0, :, 0], "x": OUT, "out": None}, ValueError, "running_var overlaps x"),
    "out-folded": ({"out": np.lib.stride_tricks.as_strided(np.zeros(99, np.float32), X.shape, (4, 4, 4))}, ValueError,
                   "out is an array whose elements share memory"),
    "out-within-elements": ({"out": np.lib.stride_tricks.as_strided(np.zeros(99, np.float32), X.shape, (30, 10, 2))},
                            ValueError, "out is an array whose elements share memory"),
    "backend-empty": ({"backend": ""}, ValueError, "backend is ''; expected one of"),
    "backend-list": ({"backend": ["cpu"]}, ValueError, r"backend is \['cpu'\]; expected one of"),
    "activation-array": ({"activation": np.array(["relu"])}, ValueError, "activation is array"),
    "momentum-none": ({"momentum": None}, TypeError, "momentum is None"),
    "correction-negative": ({"correction": -1}, ValueError, "correction is -1"),
    "correction-high": ({"correction": 20}, ValueError, "correction is 20; expected less than the 20 values"),
    "activation": ({"activation": "gelu"}, ValueError, "activation is 'gelu'; expected None or 'relu'"),
    "residual-shape": ({"residual": X[:2]}, ValueError, r"residual has shape \(2, 3, 5\); expected x's, \(4, 3, 5\)"),
    "residual-dtype": ({"residual": X.astype("f8")}, TypeError, "residual has dtype float64; expected x's, float32"),
    "out-shape": ({"out": np.zeros((4, 3), np.float32)}, ValueError, r"out has shape \(4, 3\)"),
    "out-dtype": ({"out": np.zeros(X.shape)}, TypeError, "out has dtype float64; expected x's, float32"),
    "out-read-only": ({"out": read_only(X.copy())}, ValueError, "out is read-only"),
    "out-broadcast": ({"out": np.broadcast_to(X[:1].copy(), X.shape)}, ValueError, "out is"),
    "out-list": ({"out": [1.0]}, TypeError, "out is list; expected a NumPy array"),
    "out-overlaps-x": (dict(zip(("x", "out"), shifted(), strict=True)), ValueError, "out overlaps x"),
    "out-overlaps-residual": (
        dict(zip(("residual", "out"), shifted(), strict=True)), ValueError, "out overlaps residual"
    ),
    "backend": ({"backend": "gpu"}, ValueError, "backend is 'gpu'; expected one of 'cpu', 'cuda', 'reference'"),
    "one-value": ({"x": X[:1, :, :1], "out": None}, ValueError, "x has one value per channel, which has no variance"),
}  # fmt: skip


@pytest.mark.parametrize("function", [nbn.batch_norm, nbn.batch_norm_forward])
@pytest.mark.parametrize("name", FORWARD_ERRORS)
def test_forward(name, function):
    changed, error, message = FORWARD_ERRORS[name]
    given = Given()
    with pytest.raises(error, match=message):
        function(**{**given.arguments, **changed})
    given.check_untouched()


@pytest.mark.parametrize("missing", [("running_mean",), ("running_var",), ("running_mean", "running_var")])
def test_inference_needs_running_statistics(missing):
    given = Given(training=False)
    given_none = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} None"
    with pytest.raises(ValueError, match=f"{given_none}; expected both, or training=True"):
        nbn.batch_norm(**{**given.arguments, **dict.fromkeys(missing)})
    given.check_untouched()


def test_inference_takes_one_value_per_channel_and_read_only_statistics():
    mean, var = read_only(np.zeros(3)), read_only(np.ones(3))
    np.testing.assert_allclose(nbn.batch_norm(X[:1, :, :1], None, None, mean, var, eps=0.0), X[:1, :, :1])


def test_running_statistics_must_not_share_memory():
    shared = np.ones(3)
    with pytest.raises(ValueError, match="running_mean overlaps running_var"):
        nbn.batch_norm(X, None, None, shared, shared, training=True)
    np.testing.assert_array_equal(shared, np.ones(3))


def test_forward_keeps_x_for_its_backward():
    x = X.copy()
    with pytest.raises(ValueError, match="out overlaps x; expected memory of its own"):
        nbn.batch_norm_forward(x, out=x)
    np.testing.assert_array_equal(x, X)


BACKWARD_ERRORS = {
    "dy-shape": (lambda dy, x, y: (dy[:2], None), ValueError, r"dy has shape \(2, 3, 5\); expected x's, \(4, 3, 5\)"),
    "dy-dtype": (lambda dy, x, y: (dy.astype("f8"), None), TypeError, "dy has dtype float64; expected x's, float32"),
    "out-shape": (lambda dy, x, y: (dy, dy[:2].copy()), ValueError, "out for dx has shape"),
    "out-is-x": (lambda dy, x, y: (dy, x), ValueError, "out for dx overlaps x"),
    "out-is-y": (lambda dy, x, y: (dy, y), ValueError, "out for dx overlaps the forward result"),
    "out-read-only": (lambda dy, x, y: (dy, read_only(dy.copy())), ValueError, "out for dx is read-only"),
    "out-twice": (lambda dy, x, y: (dy, (o := dy.copy(), o)), ValueError, "out for dx overlaps out for dresidual"),
    "out-three": (lambda dy, x, y: (dy, (None, None, None)), ValueError, "out has 3 arrays"),
}


@pytest.mark.parametrize("name", BACKWARD_ERRORS)
def test_backward(name):
    change, error, message = BACKWARD_ERRORS[name]
    x, dy = X.copy(), X[::-1].copy()
    y, context = nbn.batch_norm_forward(x, residual=X * 2, activation="relu")
    y_before = y.copy()
    given, out = change(dy, x, y)
    with pytest.raises(error, match=message):
        nbn.batch_norm_backward(given, context, out=out)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, y_before)
    np.testing.assert_array_equal(dy, X[::-1])


def test_backward_needs_a_context():
    with pytest.raises(TypeError, match="context is ndarray; expected the Context"):
        nbn.batch_norm_backward(X, X)


def test_backward_without_a_residual_has_no_place_for_its_gradient():
    _, context = nbn.batch_norm_forward(X)
    with pytest.raises(ValueError, match="the forward call had no residual"):
        nbn.batch_norm_backward(X, context, out=(None, X.copy()))


def test_batch_stats():
    with pytest.raises(TypeError, match="x has dtype int64"):
        nbn.batch_stats(np.ones((2, 2), int))
    with pytest.raises(ValueError, match="axis is 2"):
        nbn.batch_stats(np.ones((2, 2)), axis=2)


def test_size_one_axes_may_have_any_stride():
    x = X.reshape(20, 3)[:, None, :].copy()
    same = x.reshape(20, 3)[:, None, :]
    assert nbn.batch_norm(x, training=True, axis=2, out=same) is same


@pytest.mark.parametrize("shape", [(4, 0), (1, 0), (0, 3)])
def test_nothing_to_normalise_is_no_error(shape):
    assert nbn.batch_norm(np.zeros(shape), training=True, correction=5).shape == shape
    assert np.isnan(nbn.batch_stats(np.zeros(shape)).mean).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"dtypes": ["float16"]}, "float16"), ({"dtypes": np.float16}, "float16"), ({"layouts": ["NWHC"]}, "NWHC")],
)
def test_warmup(arguments, message):
    with pytest.raises(ValueError, match=message):
        nbn.warmup(**arguments)
