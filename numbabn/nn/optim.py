"""Optimisers: they change parameters in place, by the gradients that the last backward pass left in them."""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
from math import sqrt

import numpy as np

from . import checks
from .module import KINDS, Module, Parameter, Stateful


class Optimizer(Stateful):
    """What optimisers have in common: named parameters, a rate, weight decay, and a state that can be saved.

    Attributes
    ----------
    lr : float
        Learning rate; may be set between steps. Like the other settings it is no part of the state.
    """

    def __init__(self, model_or_parameters, lr, weight_decay, exclude):
        self.parameters = _named_parameters(model_or_parameters)
        self.lr = lr
        self.weight_decay = checks.number("weight_decay", weight_decay, 0, np.inf)
        self.exclude = _check_kinds(exclude)
        self._scratch = {name: np.empty_like(parameter.value) for name, parameter in self.parameters.items()}

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, value: float):
        self._lr = checks.number("lr", value, 0, np.inf)

    def settings(self) -> dict:
        """What a step depends on beside the rate and the state: plain numbers and lists, to be saved and compared."""
        return {"weight_decay": self.weight_decay, "exclude": sorted(self.exclude)}

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                decay = 0.0 if parameter.kind in self.exclude else self.weight_decay
                self._update(name, parameter.value, parameter.grad, decay)

    @abstractmethod
    def _update(self, name, value, grad, decay):
        """Change one parameter's value."""

    def _zeros(self):
        """An array like each parameter's value."""
        return {name: np.zeros_like(parameter.value) for name, parameter in self.parameters.items()}


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    Parameters
    ----------
    model_or_parameters : Module, mapping of names to Parameter, or iterable of Parameter
    lr : float
        Learning rate.
    momentum : float in [0, 1]
    nesterov : bool
        Whether to look one step ahead; needs momentum.
    weight_decay : float
        Times the value, added to the gradient.
    exclude : collection of {"weight", "bias", "norm"}
        Kinds of parameters that do not decay.

    Notes
    -----
    As in PyTorch: ``g = grad + weight_decay * value``, ``v = momentum * v + g``, and ``value -= lr * v``, or with
    ``nesterov``, ``value -= lr * (g + momentum * v)``.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> weight = nn.Parameter(np.array([1.0]), "weight")
    >>> weight.grad = np.array([2.0])
    >>> sgd = nn.SGD([weight], lr=0.1, momentum=0.5)
    >>> sgd.step()
    >>> sgd.step()
    >>> weight.value  # 1 - 0.1 * 2 - 0.1 * 3
    array([0.5])
    """

    def __init__(self, model_or_parameters, lr, *, momentum=0.0, nesterov=False, weight_decay=0.0, exclude=()):
        super().__init__(model_or_parameters, lr, weight_decay, exclude)
        self.momentum = checks.number("momentum", momentum, 0, 1)
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov is True and momentum 0; expected momentum, which is what it looks ahead with")
        self._velocity = self._zeros() if self.momentum else {}
        self._ahead = self._zeros() if self.nesterov else {}

    def settings(self) -> dict:
        """As for every optimiser; with the momentum."""
        return {**super().settings(), "momentum": self.momentum, "nesterov": self.nesterov}

    def _update(self, name, value, grad, decay):
        change = self._scratch[name]
        np.multiply(value, decay, out=change)
        change += grad
        if self.momentum:
            velocity = self._velocity[name]
            velocity *= self.momentum
            velocity += change
            if self.nesterov:
                change += np.multiply(velocity, self.momentum, out=self._ahead[name])
            else:
                np.copyto(change, velocity)
        change *= self.lr
        value -= change

    def _state(self):
        return {f"velocity.{name}": array for name, array in self._velocity.items()}


class AdamW(Optimizer):
    """Adam, with weight decay apart from the gradient.

    Parameters
    ----------
    model_or_parameters : Module, mapping of names to Parameter, or iterable of Parameter
    lr : float
        Learning rate.
    betas : pair of float, at least 0 and less than 1
        Weights of the old value in the running means of the gradient and of its square.
    eps : float
        Added to the root of the second.
    weight_decay : float
        Times the rate, the share by which a value shrinks at each step.
    exclude : collection of {"weight", "bias", "norm"}
        Kinds of parameters that do not decay.

    Notes
    -----
    As in PyTorch. Source: I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> weight = nn.Parameter(np.array([1.0]), "weight")
    >>> weight.grad = np.array([2.0])
    >>> nn.AdamW([weight], lr=0.1, weight_decay=0.0).step()
    >>> weight.value.round(6)  # the first step has the size of the rate
    array([0.9])
    """

    def __init__(self, model_or_parameters, lr=1e-3, *, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, exclude=()):
        super().__init__(model_or_parameters, lr, weight_decay, exclude)
        if len(betas) != 2:
            raise ValueError(f"betas has {len(betas)} values; expected two")
        self.betas = tuple(checks.fraction(f"betas[{index}]", beta) for index, beta in enumerate(betas))
        self.eps = checks.number("eps", eps, 0, np.inf)
        self._steps = np.zeros((), np.int64)
        self._first_moment = self._zeros()
        self._second_moment = self._zeros()

    def settings(self) -> dict:
        """As for every optimiser; with the betas and eps."""
        return {**super().settings(), "betas": list(self.betas), "eps": self.eps}

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        self._steps += 1
        super().step()

    def _update(self, name, value, grad, decay):
        first, second, change = self._first_moment[name], self._second_moment[name], self._scratch[name]
        beta1, beta2 = self.betas
        value *= 1 - self.lr * decay
        first *= beta1
        first += np.multiply(grad, 1 - beta1, out=change)
        np.multiply(grad, grad, out=change)
        change *= 1 - beta2
        second *= beta2
        second += change
        np.sqrt(second, out=change)
        change /= sqrt(1 - beta2 ** int(self._steps))
        change += self.eps
        np.divide(first, change, out=change)
        change *= self.lr / (1 - beta1 ** int(self._steps))
        value -= change

    def _state(self):
        state = {"steps": self._steps}
        state |= {f"first_moment.{name}": array for name, array in self._first_moment.items()}
        return state | {f"second_moment.{name}": array for name, array in self._second_moment.items()}


def _named_parameters(given: Module | Mapping[str, Parameter] | Iterable[Parameter]) -> dict[str, Parameter]:
    if isinstance(given, Module):
        given = given.named_parameters()
    if not isinstance(given, Mapping):
        given = {str(index): parameter for index, parameter in enumerate(given)}
    for name, parameter in given.items():
        if not isinstance(parameter, Parameter):
            raise TypeError(f"parameter {name} is {type(parameter).__name__}; expected a Parameter")
    if not given:
        raise ValueError("model_or_parameters has no parameters; expected at least one")
    return dict(given)


def _check_kinds(exclude: Collection[str]) -> frozenset[str]:
    if isinstance(exclude, str) or not set(exclude) <= set(KINDS):
        raise ValueError(f"exclude is {exclude!r}; expected a collection of kinds, of {', '.join(KINDS)}")
    return frozenset(exclude)
