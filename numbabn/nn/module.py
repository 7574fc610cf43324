"""What every layer and model is: a module, with parameters, buffers and modules inside it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import checks
from .memory import Buffers
from .relu import relu_gradient

KINDS = ("weight", "bias", "norm")


class Parameter:
    """An array that is trained, and the gradient of the loss with respect to it.

    Parameters
    ----------
    value : array of float32 or float64
        Optimisers update it in place.
    kind : {"weight", "bias", "norm"}
        What it is for; optimisers can leave kinds out of weight decay.

    Attributes
    ----------
    grad : array like value, or None
        None before the first backward pass; each pass overwrites it.
    """

    def __init__(self, value: np.ndarray, kind: str):
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
        self.value = value
        self.kind = kind
        self.grad: np.ndarray | None = None

    def grad_array(self) -> np.ndarray:
        """The array for the gradient, in the memory order of ``value``; made at the first call."""
        if self.grad is None:
            self.grad = np.zeros_like(self.value)
        return self.grad


class Stateful(ABC):
    """Something whose arrays can be saved and loaded: ``_state`` gives them, by dotted names."""

    @abstractmethod
    def _state(self) -> dict[str, np.ndarray]:
        """The arrays themselves, no copies."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all arrays that make up the state, by dotted names."""
        return {name: np.array(value, order="C") for name, value in self._state().items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy such arrays in, in place.

        Raises
        ------
        ValueError
            If names are missing or unexpected, or a shape or dtype differs; nothing has been written then.
        """
        copy_state(self._state(), state)


class Module(Stateful):
    """Base class of layers and models.

    A subclass writes ``forward`` and ``backward``, and calls ``super().__init__()``. Attributes that are a
    :class:`Parameter` or a :class:`Module`, or lists, tuples or dictionaries of them, are found by themselves;
    ``buffer_names`` lists attributes that are arrays (or None) to be saved with the parameters but not trained,
    ``shown_names`` settings for the repr.

    A layer owns its output's memory: what ``forward`` returns stays valid until its next call. Until then the layer
    refers to it and to its input, so neither may be overwritten before ``backward``. What ``backward`` returns is the
    caller's own, to keep or to overwrite, unless it is ``dy`` itself.

    ``copy.deepcopy`` copies parameters, buffers and settings, not the memory of the last calls.

    Raises
    ------
    ValueError, TypeError
        By the layers of this package, their ``forward`` and ``backward``: for settings, shapes and dtypes that do not
        fit, naming the argument, before the layer has written anything. Those in front of it in a container have run.
    RuntimeError
        By ``backward`` before any ``forward``.
    """

    buffer_names: tuple[str, ...] = ()
    shown_names: tuple[str, ...] = ()

    def __init__(self):
        self._buffers = Buffers()
        self._saved: Any = None

    def __repr__(self) -> str:
        """The class, the shapes of its parameters, some settings, and the modules inside, one to a line."""
        own = [f"{name} {value.value.shape}" for name, value in self._members(Parameter).items()]
        own += [f"{name}={getattr(self, name)!r}" for name in self.shown_names]
        inside = [f"\n{name}: {module!r}".replace("\n", "\n  ") for name, module in self.children().items()]
        return f"{type(self).__name__}({', '.join(own)}{''.join(inside)})"

    def __getstate__(self):
        return {**vars(self), "_buffers": Buffers(), "_saved": None}

    def __call__(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """The same as ``forward``, in inference unless told otherwise."""
        return self.forward(x, training=training)

    @abstractmethod
    def forward(self, x: np.ndarray, *, training: bool) -> np.ndarray:
        """The module's output; ``training`` says whether to use batch statistics, drop out and the like."""

    @abstractmethod
    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """Gradient by the last ``forward``'s input, given that by its output; fills the parameters' ``grad``.

        With ``need_dx=False`` the result is not wanted: a module may save its work and return None.
        """

    def children(self) -> dict[str, "Module"]:
        """The modules directly inside this one, by name."""
        return self._members(Module)

    def named_parameters(self) -> dict[str, Parameter]:
        """All parameters in and below this module, by dotted names such as ``"0.weight"``."""
        found = self._members(Parameter)
        for child, module in self.children().items():
            found.update({f"{child}.{name}": value for name, value in module.named_parameters().items()})
        return found

    def count_parameters(self) -> int:
        """How many numbers are trained; a parameter that occurs twice counts once."""
        return sum({id(parameter): parameter.value.size for parameter in self.named_parameters().values()}.values())

    def named_buffers(self) -> dict[str, np.ndarray]:
        """All arrays that are saved but not trained, by dotted names."""
        found = {name: getattr(self, name) for name in self.buffer_names if getattr(self, name) is not None}
        for child, module in self.children().items():
            found.update({f"{child}.{name}": value for name, value in module.named_buffers().items()})
        return found

    def _members(self, kind):
        """Attributes of a kind by name; those in a list, tuple or dictionary as ``"blocks.0"`` or ``"heads.left"``."""
        found = {}
        for name, value in vars(self).items():
            if isinstance(value, kind):
                found[name] = value
            elif not name.startswith("_") and isinstance(value, (list, tuple, dict)):
                entries = value.items() if isinstance(value, dict) else enumerate(value)
                found |= {f"{name}.{key}": entry for key, entry in entries if isinstance(entry, kind)}
        return found

    def _state(self):
        return {name: entry.value for name, entry in self.named_parameters().items()} | self.named_buffers()

    def _recall(self):
        """What ``forward`` left for ``backward``."""
        if self._saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward was called before forward")
        return self._saved


class Fusing(Module):
    """A layer that can add a residual to its result and apply ReLU to the sum, in its own pass over memory.

    Its ``forward`` takes ``residual``, like the result, and ``activation``, None or "relu". After ``backward``,
    ``dresidual`` is the gradient by ``residual``, or None where there was none.
    """

    def __init__(self):
        super().__init__()
        self.dresidual: np.ndarray | None = None

    def __getstate__(self):
        return {**super().__getstate__(), "dresidual": None}

    def _to_fuse(self, activation, residual, shape, dtype):
        """Whether ReLU is to be applied, and the residual as an array, or None."""
        relu = checks.choice("activation", activation, (None, "relu")) == "relu"
        return relu, None if residual is None else checks.layer_input(residual, shape, dtype, "residual")

    def _before_relu(self, dy, y, relu, fused):
        """The gradient by what ReLU was applied to, given that by the output; it is ``dresidual``, too."""
        dy = checks.gradient(dy, y.shape, y.dtype)
        dy = relu_gradient(dy, y) if relu else dy
        self.dresidual = dy if fused else None
        return dy


def copy_state(targets: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> None:
    """Copy the arrays of ``state`` into those of ``targets``, once all names, shapes and dtypes are found to agree."""
    state = {name: np.asarray(value) for name, value in state.items()}
    faults = [f"{name} is missing" for name in targets if name not in state]
    faults += [f"{name} is unexpected" for name in state if name not in targets]
    for name, target in targets.items():
        value = state.get(name, target)
        if value.shape != target.shape or value.dtype != target.dtype:
            faults.append(f"{name} is {value.dtype} {value.shape}, expected {target.dtype} {target.shape}")
    if faults:
        raise ValueError(f"state does not fit: {'; '.join(faults)}")
    for name, target in targets.items():
        target[...] = state[name]
