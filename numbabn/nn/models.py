"""Models ready to train."""

import numpy as np

from . import checks
from .containers import Sequential
from .conv import Conv2d
from .layers import Linear, ReLU
from .norm import BatchNorm
from .pool import GlobalAvgPool2d, MaxPool2d


class SmallCNN(Sequential):
    """A small convolutional network for small images: three convolutions, a mean over the image, a linear layer.

    Parameters
    ----------
    in_channels, classes : int
        Channels of the images, and outputs.
    width : int
        Filters of the first convolution; the second has twice, the third four times as many.
    norm : {"batch", None}
        Whether batch normalization follows each convolution; else the convolutions have a bias.
    seed : int
        For the initial weights. With and without batch normalization they are the same.
    dtype : {float32, float64}

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> model = nn.SmallCNN(classes=3)
    >>> model.forward(np.ones((2, 1, 8, 8), np.float32), training=False).shape
    (2, 3)
    """

    def __init__(self, in_channels=1, classes=10, *, width=16, norm="batch", seed=0, dtype=np.float32):
        if norm not in ("batch", None):
            raise ValueError(f"norm is {norm!r}; expected 'batch' or None")
        width = checks.whole("width", width, 1)
        rng = np.random.default_rng(checks.whole("seed", seed, 0))

        def block(channels, filters):
            conv = Conv2d(channels, filters, 3, padding=1, bias=norm is None, rng=rng, dtype=dtype)
            return (conv, BatchNorm(filters, dtype=dtype), ReLU()) if norm else (conv, ReLU())

        super().__init__(
            *block(in_channels, width),
            *block(width, 2 * width),
            MaxPool2d(2),
            *block(2 * width, 4 * width),
            GlobalAvgPool2d(),
            Linear(4 * width, classes, rng=rng, dtype=dtype),
        )

    def forward(self, x: np.ndarray, *, training: bool) -> np.ndarray:
        """Logits, shape (N, classes), for images of shape (N, in_channels, H, W) with H and W at least 4."""
        x = checks.data_array("x", x)
        if x.ndim == 4 and min(x.shape[2:]) < 4:
            raise ValueError(f"x has images of {x.shape[2]}x{x.shape[3]}; expected at least 4x4")
        return super().forward(x, training=training)

    def backward(self, dy: np.ndarray, *, need_dx: bool = False) -> np.ndarray | None:
        """Fill the parameters' gradients; that by the images is left out unless asked for."""
        return super().backward(dy, need_dx=need_dx)
