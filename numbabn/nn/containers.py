"""Modules made of modules: one after another, and around a shortcut. They fuse what layers can do at once.

A BatchNorm, Conv2d or Linear can add a residual and apply ReLU in its own pass over memory.
"""

import numpy as np

from . import checks
from .conv import Conv2d
from .layers import Linear, ReLU
from .memory import gradients
from .module import Module
from .norm import BatchNorm
from .relu import relu_gradient


class Sequential(Module):
    """Modules one after another; a BatchNorm, Conv2d or Linear followed by a ReLU runs as one fused call.

    Parameters
    ----------
    *layers : Module
        Named by position, as in ``"0.weight"``.
    **named : Module
        Further ones behind those, by names of their own, as in ``"conv.weight"``.

    Attributes
    ----------
    layers : tuple of Module

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> net = nn.Sequential(nn.Linear(4, 8, bias=False, rng=0), nn.BatchNorm(8), nn.ReLU())
    >>> sorted(net.named_parameters())
    ['0.weight', '1.beta', '1.gamma']
    >>> len(net), net[1].num_features
    (3, 8)
    >>> net.forward(np.eye(4, dtype=np.float32), training=True).shape
    (4, 8)
    >>> sorted(nn.Sequential(hidden=nn.Linear(4, 8, bias=False), relu=nn.ReLU()).named_parameters())
    ['hidden.weight']
    """

    def __init__(self, *layers: Module, **named: Module):
        super().__init__()
        positions = {str(index): layer for index, layer in enumerate(layers)}
        for name in named:
            if name in positions or "." in name:
                raise ValueError(f"a layer is named {name!r}; expected a name without dots that is no other's")
        self._set_layers(positions | named)

    def _set_layers(self, layers: dict[str, Module]):
        """Replace the layers."""
        for name, layer in layers.items():
            if not isinstance(layer, Module):
                raise TypeError(f"layer {name} is {type(layer).__name__}; expected a Module")
        _refuse_repeats(layers)
        self._children = layers
        self.layers = tuple(layers.values())
        self._steps = _fuse(self.layers)

    def children(self) -> dict[str, Module]:
        """The layers, by name or position."""
        return dict(self._children)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Module:
        return self.layers[index]

    def forward(self, x: np.ndarray, *, training: bool, **last) -> np.ndarray:
        """Run the layers in order; ``last`` is for the last one (that is to add a residual, say)."""
        if last and not self._steps:
            raise TypeError(f"{', '.join(last)} given to a Sequential without layers; expected one that takes them")
        for layer, options in self._steps[:-1]:
            x = layer.forward(x, training=training, **options)
        for layer, options in self._steps[-1:]:
            x = layer.forward(x, training=training, **options, **last)
        return x

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """Run the layers' backward passes in reverse."""
        for layer, _ in self._steps[:0:-1]:
            dy = layer.backward(dy, need_dx=True)
        for layer, _ in self._steps[:1]:
            dy = layer.backward(dy, need_dx=need_dx)
        return dy


def _refuse_repeats(modules):
    """Refuse a module that occurs twice, at any depth: it keeps what its last call was given."""
    seen = {}
    for name, module in modules.items():
        for inner, found in (("", module), *_below(module)):
            where = f"{name}.{inner}" if inner else name
            first = seen.setdefault(id(found), where)
            if first != where:
                raise ValueError(f"layer {where} was given before, as {first}; expected modules that occur once")


def _below(module):
    """All modules inside one, with their names."""
    for name, child in module.children().items():
        yield name, child
        yield from ((f"{name}.{inner}", found) for inner, found in _below(child))


def _fuse(layers):
    """Pairs of a layer and its options for ``forward``, of which a ReLU after it may be one."""
    steps = []
    for layer in layers:
        if isinstance(layer, ReLU) and steps and _fuses(steps[-1][0]) and not steps[-1][1]:
            steps[-1] = (steps[-1][0], {"activation": "relu"})
        else:
            steps.append((layer, {}))
    return steps


class Residual(Module):
    """``activation(body(x) + shortcut(x))``, the block that residual networks are made of.

    If the body ends in a BatchNorm, Conv2d or Linear, the sum and the activation are part of its call.

    Parameters
    ----------
    body : Module
    shortcut : Module or None
        None passes x on.
    activation : {"relu", None}

    Notes
    -----
    Source: K. He et al., "Deep Residual Learning for Image Recognition", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> block = nn.Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False, rng=0), nn.BatchNorm(8)))
    >>> block.forward(np.ones((2, 8, 4, 4), np.float32), training=True).shape
    (2, 8, 4, 4)
    """

    shown_names = ("activation",)

    def __init__(self, body: Module, shortcut: Module | None = None, activation: str | None = "relu"):
        super().__init__()
        for name, module in (("body", body), ("shortcut", shortcut)):
            if not isinstance(module, Module) and not (name == "shortcut" and module is None):
                expected = "a Module or None" if name == "shortcut" else "a Module"
                raise TypeError(f"{name} is {type(module).__name__}; expected {expected}")
        _refuse_repeats({"body": body} if shortcut is None else {"body": body, "shortcut": shortcut})
        self.body = body
        self.shortcut = shortcut
        self.activation = checks.choice("activation", activation, (None, "relu"))

    def forward(self, x: np.ndarray, *, training: bool) -> np.ndarray:
        """Run body and shortcut on x; their outputs must have the same shape."""
        shortcut = x if self.shortcut is None else self.shortcut.forward(x, training=training)
        if _last_fusing(self.body) is not None:
            return self.body.forward(x, training=training, activation=self.activation, residual=shortcut)
        y = self.body.forward(x, training=training)
        if y.shape != shortcut.shape:
            raise ValueError(f"body gives shape {y.shape}, the shortcut {shortcut.shape}; expected the same")
        y = np.add(y, shortcut, out=self._buffers.like("y", y, shortcut))
        self._saved = np.maximum(y, 0, out=y) if self.activation else y
        return y

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """Gradient by x: the sum of what comes through body and shortcut."""
        given, last = dy, _last_fusing(self.body)
        if last is None:
            y = self._recall()
            dy = checks.gradient(dy, y.shape, y.dtype)
            if self.activation:
                dy = relu_gradient(dy, y)
        through_body = self.body.backward(dy, need_dx=need_dx)
        through_shortcut = dy
        if last is not None:
            through_shortcut, last.dresidual = last.dresidual, None  # its memory is for the next gradients
        if self.shortcut is not None:
            through_shortcut = self.shortcut.backward(through_shortcut, need_dx=need_dx)
        if not need_dx:
            return None
        passed_on = np.may_share_memory(through_body, given)  # by a body without layers, say
        total = gradients.like(through_body) if passed_on else through_body
        return np.add(through_body, through_shortcut, out=total)


def _fuses(layer):
    """Whether a layer's ``forward`` is known to take a residual and an activation; subclasses may have their own."""
    return type(layer).forward in (BatchNorm.forward, Conv2d.forward, Linear.forward)


def _last_fusing(module):
    """The layer that a module ends in, if that can take a residual, or None."""
    while type(module).forward is Sequential.forward and module.layers:
        module = module.layers[-1]
    return module if _fuses(module) else None
