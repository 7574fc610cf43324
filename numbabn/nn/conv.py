"""Two-dimensional convolution."""

import numpy as np

from . import checks, convolution
from .init import he_normal
from .memory import gradients
from .module import Fusing, Parameter
from .window import window_over


class Conv2d(Fusing):
    """Convolution of images with learned filters.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding : int or pair of int
        A pair is (vertical, horizontal). Padding is with zeros, on both sides.
    bias : bool
        Whether to add a learned value per filter. Batch normalization right after it makes it useless.
    rng : numpy.random.Generator, int or None
        For the weight's initial values, see :func:`he_normal`; the bias starts at zero.
    dtype : {float32, float64}
        Of parameters, input and result.

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels, height, width)
    bias : Parameter, shape (out_channels,), or None
    dresidual : array like the result, or None
        After ``backward``: gradient by ``residual``.

    Notes
    -----
    Images are (N, C, H, W); the result lies in memory as (N, H, W, C), which all layers here take as it is. Input in
    another order is copied once.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, rng=0)
    >>> conv.forward(np.ones((4, 3, 32, 32), np.float32), training=True).shape
    (4, 8, 16, 16)
    """

    shown_names = ("stride", "padding")

    def __init__(
        self, in_channels, out_channels, kernel_size, *, stride=1, padding=0, bias=True, rng=None, dtype=np.float32
    ):
        super().__init__()
        dtype = checks.float_dtype(dtype)
        channels = checks.whole("in_channels", in_channels, 1)
        filters = checks.whole("out_channels", out_channels, 1)
        self.kernel_size = checks.pair("kernel_size", kernel_size, 1)
        self.stride = checks.pair("stride", stride, 1)
        self.padding = checks.pair("padding", padding, 0)
        weight = he_normal((filters, *self.kernel_size, channels), rng, dtype)
        self.weight = Parameter(weight.transpose(0, 3, 1, 2), "weight")
        self.bias = Parameter(np.zeros(filters, dtype), "bias") if bias else None

    def forward(self, x: np.ndarray, *, training: bool, activation=None, residual=None) -> np.ndarray:
        """Convolve x, shape (N, in_channels, H, W).

        The result is (N, out_channels, H', W'), ``H' = (H + 2 * padding - kernel_size) // stride + 1`` and so W'.
        ``residual``, shaped like it, is added and ``activation`` (None or "relu") applied to each part of the result
        while that is in cache.
        """
        weight = self.weight.value
        x = checks.layer_input(x, ("N", weight.shape[1], "H", "W"), weight.dtype)
        window = window_over(x.shape[2:], self.kernel_size, self.stride, self.padding)
        shape = len(x), len(weight), window.rows, window.columns
        relu, residual = self._to_fuse(activation, residual, shape, weight.dtype)
        if residual is not None:
            residual = self._buffers.channels_last("residual", residual)
        x = self._buffers.channels_last("x", x)
        bias = None if self.bias is None else self.bias.value
        y = convolution.convolve(x, weight, bias, residual, relu, window, self._buffers).transpose(0, 3, 1, 2)
        self._saved = x, y, window, relu, residual is not None
        return y

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """Gradient by x; fills those of ``weight`` and ``bias``, and ``dresidual``."""
        x, y, window, relu, fused = self._recall()
        dy = gradients.channels_last(self._before_relu(dy, y, relu, fused))
        convolution.parameter_gradients(dy, x, self.weight, self.bias, window)
        if not need_dx:
            return None
        return convolution.input_gradient(dy, x, self.weight.value, window).transpose(0, 3, 1, 2)
