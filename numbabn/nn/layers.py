"""Small layers: linear, ReLU, flattening, dropout."""

from math import prod

import numpy as np

from . import checks, products
from .init import he_normal
from .memory import gradients
from .module import Fusing, Module, Parameter
from .relu import relu_gradient


class Linear(Fusing):
    """``y = x @ weight.T + bias``.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    rng : numpy.random.Generator, int or None
        For the weight's initial values, see :func:`he_normal`; the bias starts at zero.
    dtype : {float32, float64}
        Of parameters, input and result.

    Attributes
    ----------
    weight : Parameter, shape (out_features, in_features)
    bias : Parameter, shape (out_features,), or None
    dresidual : array like the result, or None
        After ``backward``: gradient by ``residual``.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> linear = nn.Linear(2, 1, rng=0)
    >>> linear.load_state_dict({"weight": np.float32([[2, 3]]), "bias": np.float32([1])})
    >>> linear.forward(np.float32([[1, 0], [0, 1]]), training=False)
    array([[3.],
           [4.]], dtype=float32)
    """

    def __init__(self, in_features, out_features, *, bias=True, rng=None, dtype=np.float32):
        super().__init__()
        dtype = checks.float_dtype(dtype)
        shape = checks.whole("out_features", out_features, 1), checks.whole("in_features", in_features, 1)
        self.weight = Parameter(he_normal(shape, rng, dtype), "weight")
        self.bias = Parameter(np.zeros(shape[0], dtype), "bias") if bias else None

    def forward(self, x: np.ndarray, *, training: bool, activation=None, residual=None) -> np.ndarray:
        """Map x, shape (N, in_features), to (N, out_features).

        ``residual``, shaped like the result, is added and ``activation`` (None or "relu") applied to each part of the
        result while that is in cache.
        """
        weight = self.weight.value
        x = checks.layer_input(x, ("N", weight.shape[1]), weight.dtype)
        relu, residual = self._to_fuse(activation, residual, (len(x), len(weight)), weight.dtype)
        if residual is not None:
            residual = self._buffers.contiguous("residual", residual)
        x = self._buffers.contiguous("x", x)
        bias = None if self.bias is None else self.bias.value
        y = self._buffers.take("y", (len(x), len(weight)), x.dtype, x, residual)
        products.multiply(x, weight, products.epilogue_of(bias, residual, relu, x.dtype), y)
        self._saved = x, y, relu, residual is not None
        return y

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """Gradient by x; fills those of ``weight`` and ``bias``, and ``dresidual``."""
        x, y, relu, fused = self._recall()
        dy = gradients.contiguous(self._before_relu(dy, y, relu, fused))
        products.parameter_gradients(dy, x, self.weight, self.bias)
        if not need_dx:
            return None
        dx = gradients.take(x.shape, x.dtype)
        products.input_gradient(dy, self.weight.value, dx)
        return dx


class ReLU(Module):
    """``max(x, 0)``; NaN stays NaN.

    Right after a BatchNorm, Conv2d or Linear in a Sequential it costs next to nothing: the two are fused.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> relu = nn.ReLU()
    >>> relu.forward(np.array([-1.0, 0.0, 2.0]), training=True)
    array([0., 0., 2.])
    >>> relu.backward(np.array([5.0, 6.0, 7.0]))
    array([0., 0., 7.])
    """

    def forward(self, x: np.ndarray, *, training: bool) -> np.ndarray:
        """Rectify x, of any shape."""
        x = checks.data_array("x", x)
        self._saved = np.maximum(x, 0, out=self._buffers.like("y", x))
        return self._saved

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """Gradient by x: ``dy`` where y is positive, else 0."""
        y = self._recall()
        return relu_gradient(checks.gradient(dy, y.shape, y.dtype), y)


class Flatten(Module):
    """(N, C, H, W) to (N, C * H * W), in this order whatever the memory order; any shape to (N, rest).

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> nn.Flatten().forward(np.arange(8.0).reshape(2, 2, 1, 2), training=True)
    array([[0., 1., 2., 3.],
           [4., 5., 6., 7.]])
    """

    def forward(self, x: np.ndarray, *, training: bool) -> np.ndarray:
        """Flatten x, with at least one axis; a view where x is in C order."""
        x = checks.data_array("x", x)
        if x.ndim == 0:
            raise ValueError("x has no axes; expected at least one")
        self._saved = x
        return self._buffers.contiguous("y", x).reshape(len(x), prod(x.shape[1:]))

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """``dy`` in the shape and memory order of x."""
        x = self._recall()
        dy = checks.gradient(dy, (len(x), prod(x.shape[1:])), x.dtype)
        dx = gradients.like(x)
        np.copyto(dx, dy.reshape(x.shape))
        return dx


class Dropout(Module):
    """Set values to 0 with probability p in training, and divide the others by ``1 - p``.

    Parameters
    ----------
    p : float, at least 0 and less than 1
    seed : int, at least 0
        Each call in training draws from ``default_rng([seed, number of calls before])``; that number is part of the
        state, so that a resumed run draws as it would have gone on.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> nn.Dropout(0.5, seed=1).forward(np.ones(8, np.float32), training=True)
    array([0., 2., 2., 2., 0., 0., 2., 2.], dtype=float32)
    """

    buffer_names = ("calls",)
    shown_names = ("p",)

    def __init__(self, p, *, seed=0):
        super().__init__()
        self.p = checks.fraction("p", p)
        self.seed = checks.whole("seed", seed, 0)
        self.calls = np.zeros((), np.int64)

    def forward(self, x: np.ndarray, *, training: bool) -> np.ndarray:
        """Drop values of x, of any shape; x itself if not training."""
        x = checks.data_array("x", x)
        if not training or self.p == 0:
            self._saved = x, None
            return x
        numbers = self._buffers.take("factor", (x.size,), x.dtype)
        np.random.default_rng([self.seed, int(self.calls)]).random(out=numbers, dtype=x.dtype.type)
        np.greater_equal(numbers, self.p, out=numbers)
        numbers /= 1 - self.p
        self.calls += 1
        factor = self._buffers.like("factor", x)
        y = np.multiply(x, factor, out=self._buffers.like("y", x))
        self._saved = y, factor
        return y

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """Gradient by x: ``dy`` times the factors of the last forward call."""
        y, factor = self._recall()
        dy = checks.gradient(dy, y.shape, y.dtype)
        return dy if factor is None else np.multiply(dy, factor, out=gradients.like(y))
