"""Residual networks for small images."""

from functools import partial

import numpy as np

from . import checks
from .blocks import Blocks, ImageNetwork
from .containers import Residual, Sequential
from .memory import gradients
from .module import Module
from .pool import GlobalAvgPool2d


class Subsample(Module):
    """Every ``stride``-th pixel of an image, with channels of zeros behind its own: a shortcut without parameters.

    Parameters
    ----------
    in_channels, out_channels : int
        The second is at least the first.
    stride : int

    Notes
    -----
    Option A of K. He et al., "Deep Residual Learning for Image Recognition", 2015, section 3.3. The result lies in
    memory as that of a convolution with this stride does, (N, H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> nn.Subsample(1, 2, 2).forward(np.arange(9.0).reshape(1, 1, 3, 3), training=True)
    array([[[[0., 2.],
             [6., 8.]],
    <BLANKLINE>
            [[0., 0.],
             [0., 0.]]]])
    """

    shown_names = ("in_channels", "out_channels", "stride")

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.in_channels = checks.whole("in_channels", in_channels, 1)
        self.out_channels = checks.whole("out_channels", out_channels, self.in_channels)
        self.stride = checks.whole("stride", stride, 1)

    def forward(self, x: np.ndarray, *, training: bool) -> np.ndarray:
        """Subsample x, shape (N, in_channels, H, W); the result is (N, out_channels, ceil(H / s), ceil(W / s))."""
        x = checks.layer_input(x, ("N", self.in_channels, "H", "W"))
        pixels = x[:, :, :: self.stride, :: self.stride].transpose(0, 2, 3, 1)
        y = self._buffers.take("y", (*pixels.shape[:3], self.out_channels), x.dtype, x)
        y[..., : self.in_channels] = pixels
        y[..., self.in_channels :] = 0
        y = y.transpose(0, 3, 1, 2)
        self._saved = x, y
        return y

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """Gradient by x: dy at the pixels that were taken, 0 at the others."""
        x, y = self._recall()
        dy = checks.gradient(dy, y.shape, y.dtype)
        if not need_dx:
            return None
        dx = gradients.like(x)
        dx[...] = 0
        dx[:, :, :: self.stride, :: self.stride] = dy[:, : self.in_channels]
        return dx


class ResNet(ImageNetwork):
    """Residual network for images of about 32x32, and the plain network that it is compared with.

    A 3x3 convolution, three stages of n blocks of two 3x3 convolutions with a shortcut around them, a mean over the
    image, a linear layer. The second and third stage start with a stride of 2.

    Parameters
    ----------
    depth : int
        ``6 * n + 2``: 8, 14, 20, 32, 44, 56, 110, ...
    in_channels, classes : int
        Channels of the images, and outputs.
    width : int
        Filters in the first stage; the second has twice, the third four times as many.
    norm : {"batch", None}
        Whether batch normalization follows each convolution.
    placement : {"before", "after"}
        Whether that comes before or after the activation. Right before it, the convolutions need and have no bias.
    dropout : float, at least 0 and less than 1
        Probability with which values are dropped in each block between its two convolutions, after the activation and
        normalization of the first. What the shortcut carries is not dropped.
    shortcut : bool
        Whether blocks have their shortcut. Without, this is the plain network, with the same parameters and names.
    zero_init_last_gamma : bool
        Whether gamma of each block's last batch normalization starts at 0, so that a block starts as its shortcut.
    seed : int
        For the initial weights and for dropout. The weights are the same with and without normalization, dropout and
        shortcuts.
    dtype : {float32, float64}

    Notes
    -----
    Source: K. He et al., "Deep Residual Learning for Image Recognition", 2015, section 4.2. As there, shortcuts have no
    parameters (option A: :class:`Subsample` where the shape changes), so that networks with and without them differ in
    the sums alone. A block is, with other weights at each place::

        relu(x + norm(conv(relu(norm(conv(x))))))    norm="batch", placement="before"
        x + norm(relu(conv(norm(relu(conv(x))))))    norm="batch", placement="after"
        relu(x + conv(relu(conv(x))))                norm=None

    The sum of the second form stays as it is: a ReLU and a normalization of it would change what shortcuts hand on.
    Dropout between the convolutions: S. Zagoruyko and N. Komodakis, "Wide Residual Networks", 2016, section 2.4. Zeros
    for gamma: P. Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 5.1. All weights start by
    :func:`he_normal`.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> model = nn.ResNet(20)
    >>> model.forward(np.ones((2, 3, 32, 32), np.float32), training=False).shape
    (2, 10)
    >>> model.count_parameters()
    269722
    >>> list(model.children())
    ['stem', 'stage1', 'stage2', 'stage3', 'pool', 'linear']
    """

    def __init__(
        self,
        depth,
        in_channels=3,
        classes=10,
        *,
        width=16,
        norm="batch",
        placement="before",
        dropout=0.0,
        shortcut=True,
        zero_init_last_gamma=False,
        seed=0,
        dtype=np.float32,
    ):
        blocks = Blocks(norm, placement, dropout, seed, dtype)
        depth, width = checks.whole("depth", depth, 8), checks.whole("width", width, 1)
        self.in_channels = checks.whole("in_channels", in_channels, 1)
        if depth % 6 != 2:
            raise ValueError(f"depth is {depth}; expected 6n + 2, such as 8, 14, 20, 32, 44, 56 or 110")
        if zero_init_last_gamma and not (norm and shortcut):
            lacking = "shortcut is False" if norm else "norm is None"
            raise ValueError(f"zero_init_last_gamma is True and {lacking}; expected norm='batch' and shortcut=True")

        block = partial(_block, blocks, shortcut=shortcut, zero_init_last_gamma=zero_init_last_gamma)

        def stage(channels, filters, stride):
            others = (block(filters, filters, 1) for _ in range(depth // 6 - 1))
            return Sequential(block(channels, filters, stride), *others)

        super().__init__(
            stem=Sequential(**blocks.around(blocks.conv(in_channels, width), dropout=False)),
            stage1=stage(width, width, 1),
            stage2=stage(width, 2 * width, 2),
            stage3=stage(2 * width, 4 * width, 2),
            pool=GlobalAvgPool2d(),
            linear=blocks.logits(4 * width, classes),
        )


def _block(blocks, channels, filters, stride, *, shortcut, zero_init_last_gamma):
    """Two convolutions, with a shortcut or without; ``"body"`` is in the names of either."""
    rectified_sum = shortcut and blocks.end_in_activation
    first = blocks.around(blocks.conv(channels, filters, stride), "1")
    second = blocks.around(blocks.conv(filters, filters), "2", activation=not rectified_sum, dropout=False)
    body = Sequential(**first, **second)
    if not shortcut:
        return Sequential(body=body)
    if zero_init_last_gamma:
        second["norm2"].gamma.value[...] = 0
    changes = Subsample(channels, filters, stride) if stride > 1 else None
    return Residual(body, changes, "relu" if rectified_sum else None)
