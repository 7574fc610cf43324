"""Small models ready to train: a convolutional network, a multilayer perceptron. ResNets are in ``resnet.py``."""

from math import prod

import numpy as np

from . import checks
from .blocks import Blocks, ImageNetwork, Network
from .layers import Flatten
from .pool import GlobalAvgPool2d, MaxPool2d


class SmallCNN(ImageNetwork):
    """A small convolutional network for small images.

    Two 3x3 convolutions, 2x2 max pooling, a third convolution, the mean over the image, a linear layer.

    Parameters
    ----------
    in_channels, classes : int
        Channels of the images, and outputs.
    width : int
        Filters of the first convolution; the second has twice, the third four times as many.
    norm : {"batch", None}
        Whether batch normalization follows each convolution.
    placement : {"before", "after"}
        Whether that comes before or after the activation. Right before it, the convolutions need and have no bias.
    dropout : float, at least 0 and less than 1
        Probability with which values are dropped at the end of each block, after activation and normalization.
    seed : int
        For the initial weights and for dropout. The weights are the same with and without either.
    dtype : {float32, float64}

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> model = nn.SmallCNN(classes=3)
    >>> model.forward(np.ones((2, 1, 8, 8), np.float32), training=False).shape
    (2, 3)
    >>> model.count_parameters()
    23603
    """

    def __init__(
        self,
        in_channels=1,
        classes=10,
        *,
        width=16,
        norm="batch",
        placement="before",
        dropout=0.0,
        seed=0,
        dtype=np.float32,
    ):
        blocks = Blocks(norm, placement, dropout, seed, dtype)
        width = checks.whole("width", width, 1)
        self.in_channels = checks.whole("in_channels", in_channels, 1)

        def block(channels, filters):
            return blocks.around(blocks.conv(channels, filters)).values()

        super().__init__(
            *block(in_channels, width),
            *block(width, 2 * width),
            MaxPool2d(2),
            *block(2 * width, 4 * width),
            GlobalAvgPool2d(),
            blocks.logits(4 * width, classes),
        )


class MLP(Network):
    """A multilayer perceptron: linear layers with ReLU between them.

    Parameters
    ----------
    in_features : int
        Values per sample, whatever their shape.
    classes : int
        Outputs.
    hidden : sequence of int
        Outputs of each hidden layer; there may be none.
    norm : {"batch", None}
        Whether batch normalization follows each hidden layer.
    placement : {"before", "after"}
        Whether that comes before or after the activation. Right before it, the hidden layers need and have no bias.
    dropout : float, at least 0 and less than 1
        Probability with which values are dropped after each hidden layer's activation and normalization.
    seed : int
        For the initial weights and for dropout. The weights are the same with and without either.
    dtype : {float32, float64}

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> model = nn.MLP(64, 10, hidden=(32,), dropout=0.5)
    >>> list(model.children())
    ['flatten', 'linear1', 'norm1', 'relu1', 'dropout1', 'linear2']
    >>> model.forward(np.ones((2, 1, 8, 8), np.float32), training=False).shape
    (2, 10)
    """

    def __init__(
        self,
        in_features,
        classes,
        *,
        hidden=(256, 256),
        norm="batch",
        placement="before",
        dropout=0.0,
        seed=0,
        dtype=np.float32,
    ):
        blocks = Blocks(norm, placement, dropout, seed, dtype)
        if not isinstance(hidden, (tuple, list)):
            raise TypeError(f"hidden is {hidden!r}; expected a tuple of integers, one for each hidden layer")
        self.in_features = checks.whole("in_features", in_features, 1)
        sizes = [self.in_features, *(checks.whole("hidden", size, 1) for size in hidden)]
        layers = {"flatten": Flatten()}
        for number in range(1, len(sizes)):
            layers |= blocks.around(blocks.hidden(*sizes[number - 1 : number + 1]), str(number))
        super().__init__(**layers, **{f"linear{len(sizes)}": blocks.logits(sizes[-1], classes)})

    def forward(self, x: np.ndarray, *, training: bool) -> np.ndarray:
        """Logits, shape (N, classes), for x of shape (N, ...) with in_features values per sample."""
        x = checks.data_array("x", x)
        if x.ndim and prod(x.shape[1:]) != self.in_features:
            raise ValueError(f"x has shape {x.shape}; expected {self.in_features} values for each of {len(x)} samples")
        return super().forward(x, training=training)
