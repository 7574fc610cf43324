"""Batch normalization with running statistics, made part of the layer in front of it."""

import copy
from collections import Counter

import numpy as np

from .blocks import ImageNetwork
from .containers import Sequential
from .conv import Conv2d
from .layers import Linear
from .models import MLP
from .module import Module, Parameter
from .norm import BatchNorm

CHAINS = Sequential.forward, ImageNetwork.forward, MLP.forward
"""These run a Sequential's layers one after another; what else a subclass does with them is not known."""


def fold(model: Module) -> Module:
    """A copy of a model for inference, in which batch normalizations are part of the convolutions in front of them.

    With running statistics a BatchNorm is a scale and a shift for each channel. Where it directly follows a Conv2d or
    Linear inside a Sequential, that layer's weight and bias take them over, and it is gone::

        scale = gamma / sqrt(running_var + eps)
        weight = weight * scale        bias = (bias - running_mean) * scale + beta

    Parameters
    ----------
    model : Module
        Left as it is.

    Returns
    -------
    Module
        Of the same class, with the same names for what is left; layers that had no bias may have one. What cannot be
        folded is still there: a BatchNorm that follows something else, has no running statistics, or would make a
        weight infinite or NaN; layers that occur more than once or share a parameter; subclasses of Conv2d, Linear or
        BatchNorm, and what a subclass of Sequential runs in a ``forward`` of its own. With ``training=True`` the copy
        is the network without the BatchNorms that are gone: their statistics stay what they were, and its weights can
        be trained further.

    Notes
    -----
    Weights and biases are computed in float64 and rounded once. Outputs agree up to the rounding of what they are sums
    of, which counts where a running mean is many standard deviations from 0.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> model = nn.Sequential(nn.Linear(4, 8, bias=False, rng=0), nn.BatchNorm(8), nn.ReLU())
    >>> nn.fold(model)
    Sequential(
      0: Linear(weight (8, 4), bias (8,))
      2: ReLU())
    >>> x = np.eye(4, dtype=np.float32)
    >>> np.allclose(nn.fold(model).forward(x, training=False), model.forward(x, training=False))
    True
    """
    if not isinstance(model, Module):
        raise TypeError(f"model is {type(model).__name__}; expected a Module")
    folded = copy.deepcopy(model)
    _fold(folded, None, Counter(_occurrences(folded)))
    return folded


def _occurrences(module):
    """The identity of every module and parameter below, as often as it occurs."""
    for child in module.children().values():
        yield id(child)
        yield from _occurrences(child)
    yield from (id(value) for value in vars(module).values() if isinstance(value, Parameter))


def _fold(module, front, occurrences):
    """Fold what is inside a module, and its first BatchNorms into ``front``, the layer whose output it alone gets.

    Returns the layer whose output the module passes on as it is, None if there is no such layer.
    """
    if type(module).forward not in CHAINS:
        for child in module.children().values():
            _fold(child, None, occurrences)
        return module if type(module) in (Conv2d, Linear) and _occurs_once(module, occurrences) else None
    kept = {}
    for name, layer in module.children().items():
        if front is not None and type(layer) is BatchNorm and occurrences[id(layer)] == 1 and _absorb(front, layer):
            continue
        kept[name] = layer
        front = _fold(layer, front, occurrences)
    module._set_layers(kept)
    return front


def _occurs_once(layer, occurrences):
    return all(occurrences[id(part)] <= 1 for part in (layer, *layer.named_parameters().values()))


def _absorb(layer, norm):
    """Make a BatchNorm part of the layer in front of it; tells whether that was possible."""
    weight = layer.weight.value
    if norm.running_mean is None or norm.num_features != len(weight) or norm.axis not in (1, 1 - weight.ndim):
        return False
    gamma, beta, bias = (None if part is None else part.value for part in (norm.gamma, norm.beta, layer.bias))
    with np.errstate(all="ignore"):
        scale = _wide(gamma, 1) / np.sqrt(_wide(norm.running_var) + norm.eps)
        bias = (_wide(bias) - _wide(norm.running_mean)) * scale + _wide(beta)
        scaled = weight * np.expand_dims(scale, tuple(range(1, weight.ndim)))
        scaled, bias = scaled.astype(weight.dtype), bias.astype(weight.dtype)
    if not (np.isfinite(scaled).all() and np.isfinite(bias).all()):
        return False
    weight[...] = scaled
    if layer.bias is None:
        layer.bias = Parameter(bias, "bias")
    layer.bias.value[...] = bias
    return True


def _wide(values, default=0):
    return np.asarray(default if values is None else values, np.float64)
