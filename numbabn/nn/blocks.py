"""What the models have in common: blocks of a layer, its normalization, activation and dropout."""

import numpy as np

from . import checks
from .containers import Sequential
from .conv import Conv2d
from .layers import Dropout, Linear, ReLU
from .module import Module
from .norm import BatchNorm

LEAST_IMAGE = 4
"""Height and width that every network for images takes, so that they can be exchanged: ResNets halve twice."""


class Blocks:
    """Makes the blocks of one model, which share its settings.

    Weights and the dropout layers' seeds are drawn from two streams, each in the order of the layers: the initial
    weights are the same with and without batch normalization and dropout.
    """

    def __init__(self, norm, placement, dropout, seed, dtype):
        self.norm = checks.choice("norm", norm, ("batch", None))
        checks.choice("placement", placement, ("before", "after"))
        self.end_in_activation = norm is None or placement == "before"
        self.dropout = checks.fraction("dropout", dropout)
        seed = checks.whole("seed", seed, 0)
        self.dtype = checks.float_dtype(dtype)
        self._rng = np.random.default_rng(seed)
        self._seeds = np.random.default_rng([seed, 1])

    def conv(self, channels, filters, stride=1) -> Conv2d:
        """A 3x3 convolution that keeps the images' size, or halves it."""
        bias = self._takes_bias
        return Conv2d(channels, filters, 3, stride=stride, padding=1, bias=bias, rng=self._rng, dtype=self.dtype)

    def hidden(self, in_features, out_features) -> Linear:
        """A linear layer for a block."""
        return Linear(in_features, out_features, bias=self._takes_bias, rng=self._rng, dtype=self.dtype)

    def logits(self, in_features, classes) -> Linear:
        """The linear layer at a model's end."""
        return Linear(in_features, classes, rng=self._rng, dtype=self.dtype)

    def around(self, layer, number="", *, activation=True, dropout=True) -> dict[str, Module]:
        """A block's layers by name: the given one, then normalization and ReLU as placed, then dropout."""
        parts = {"conv" if isinstance(layer, Conv2d) else "linear": layer}
        followers = {}
        if self.norm:
            followers["norm"] = BatchNorm(len(layer.weight.value), dtype=self.dtype)
        if activation:
            followers["relu"] = ReLU()
        parts |= followers if self.end_in_activation else dict(reversed(followers.items()))
        if dropout and self.dropout:
            parts["dropout"] = Dropout(self.dropout, seed=int(self._seeds.integers(2**32)))
        return {f"{name}{number}": part for name, part in parts.items()}

    @property
    def _takes_bias(self):
        """Batch normalization right after a layer would subtract its bias again."""
        return self.norm is None or not self.end_in_activation


class Network(Sequential):
    """Layers one after another, with nothing in front of them."""

    def backward(self, dy: np.ndarray, *, need_dx: bool = False) -> np.ndarray | None:
        """Fill the parameters' gradients; that by the input is left out unless asked for."""
        return super().backward(dy, need_dx=need_dx)


class ImageNetwork(Network):
    """A network for images of at least 4x4 pixels, which sets ``in_channels``."""

    in_channels: int

    def forward(self, x: np.ndarray, *, training: bool) -> np.ndarray:
        """Logits, shape (N, classes), for images of shape (N, in_channels, H, W) with H and W at least 4."""
        x = checks.layer_input(x, ("N", self.in_channels, "H", "W"))
        if min(x.shape[2:]) < LEAST_IMAGE:
            least = f"{LEAST_IMAGE}x{LEAST_IMAGE}"
            raise ValueError(f"x has images of {x.shape[2]}x{x.shape[3]}; expected at least {least}")
        return super().forward(x, training=training)
