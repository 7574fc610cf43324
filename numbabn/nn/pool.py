"""Pooling: the largest value of each window, the mean of each image."""

from functools import partial

import numpy as np

from . import checks
from .memory import gradients
from .module import Module
from .window import window_over


class MaxPool2d(Module):
    """The largest value that a window sees in each channel. NaN counts as largest; padding as smallest.

    Parameters
    ----------
    kernel_size, stride, padding : int or pair of int
        A pair is (vertical, horizontal). ``stride=None`` means ``kernel_size``. Padding is at most half the window.

    Notes
    -----
    Of several equal values the first, row by row, gets the gradient. The result has the memory order of x where that is
    (N, C, H, W) or (N, H, W, C), else the former.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> nn.MaxPool2d(2).forward(np.arange(16.0).reshape(1, 1, 4, 4), training=True)
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """

    shown_names = ("kernel_size", "stride", "padding")

    def __init__(self, kernel_size, *, stride=None, padding=0):
        super().__init__()
        self.kernel_size = checks.pair("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else checks.pair("stride", stride, 1)
        self.padding = checks.pair("padding", padding, 0)
        if any(2 * pad > size for pad, size in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(f"padding is {padding!r}; expected at most half of kernel_size, {kernel_size!r}")

    def forward(self, x: np.ndarray, *, training: bool) -> np.ndarray:
        """Pool x, shape (N, C, H, W), to (N, C, H', W')."""
        from . import pool_kernels

        x = checks.layer_input(x, ("N", "C", "H", "W"))
        window = window_over(x.shape[2:], self.kernel_size, self.stride, self.padding)
        channels_last = not x.flags.c_contiguous and x.transpose(0, 2, 3, 1).flags.c_contiguous
        planes = _planes(x, channels_last, partial(self._buffers.contiguous, "x"))
        shape = (len(planes), window.rows, window.columns, planes.shape[3])
        y = self._buffers.take("y", shape, x.dtype, x)
        chosen = self._buffers.take("chosen", shape, np.int32)
        pool_kernels.max_pool(planes, y, chosen, window)
        y = _images(y, x.shape, channels_last)
        self._saved = x.shape, y, chosen, window, channels_last
        return y

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """Gradient by x: that of each window goes to the value it chose."""
        shape, y, chosen, window, channels_last = self._recall()
        dy = checks.gradient(dy, y.shape, y.dtype)
        if not need_dx:
            return None
        from . import pool_kernels

        height, width = shape[2:]
        dx = gradients.take((len(chosen), height, width, chosen.shape[3]), dy.dtype)
        pool_kernels.max_pool_backward(_planes(dy, channels_last, gradients.contiguous), chosen, dx, window)
        return _images(dx, shape, channels_last)


class GlobalAvgPool2d(Module):
    """The mean of each image in each channel: (N, C, H, W) to (N, C).

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> nn.GlobalAvgPool2d().forward(np.arange(8.0).reshape(1, 2, 2, 2), training=True)
    array([[1.5, 5.5]])
    """

    def forward(self, x: np.ndarray, *, training: bool) -> np.ndarray:
        """Average x, shape (N, C, H, W), over H and W."""
        x = checks.layer_input(x, ("N", "C", "H", "W"))
        self._saved = x
        return x.mean(axis=(2, 3), out=self._buffers.take("y", x.shape[:2], x.dtype, x))

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """Gradient by x: dy, spread evenly."""
        x = self._recall()
        dy = checks.gradient(dy, x.shape[:2], x.dtype)
        dx = gradients.like(x)
        dx[...] = (dy / (x.shape[2] * x.shape[3]))[:, :, None, None]
        return dx


def _planes(x, channels_last, contiguous):
    """Images as contiguous (outer, H, W, inner): (N, H, W, C) if channels are last in memory, else (N*C, H, W, 1)."""
    if channels_last:
        return contiguous(x.transpose(0, 2, 3, 1))
    images, channels, height, width = x.shape
    return contiguous(x).reshape(images * channels, height, width, 1)


def _images(planes, shape, channels_last):
    """The inverse, for images of any size; ``shape`` starts with (N, C)."""
    if channels_last:
        return planes.transpose(0, 3, 1, 2)
    return planes.reshape(*shape[:2], *planes.shape[1:3])
