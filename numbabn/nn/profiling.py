"""Where the time of a training step goes, layer by layer."""

from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import NamedTuple

from .containers import Sequential
from .module import Module, Parameter


class LayerTime(NamedTuple):
    """What the calls of one module took."""

    name: str
    """Dotted, as in ``state_dict``; empty for the model itself."""
    kind: str
    """The class."""
    shape: tuple[int, ...]
    """Of the last output."""
    parameters: int
    """How many numbers are trained in the module itself."""
    forward: float
    """Milliseconds of a forward call, the median."""
    backward: float
    """The same for backward; 0 without calls."""
    share: float
    """Of the time of all modules, from 0 to 1."""


class Profile:
    """Times every call of a model's modules inside a ``with`` statement. Outside, they run as ever.

    As text, by ``print``, it is a table. A module with others inside has only the time of what it does itself, such as
    some sums of a Residual; a ReLU that is part of another layer's call counts there. Loss and optimiser are not seen.

    Parameters
    ----------
    model : Module

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> model = nn.MLP(64, 10, hidden=(32,))
    >>> with nn.Profile(model) as profile:
    ...     for step in range(3):
    ...         dx = model.backward(model.forward(np.ones((8, 64), np.float32), training=True))
    >>> for row in profile.rows():
    ...     print(row.name, row.kind, row.shape, row.parameters)
    flatten Flatten (8, 64) 0
    linear1 Linear (8, 32) 2048
    norm1 BatchNorm (8, 32) 64
    linear2 Linear (8, 10) 330
    >>> print(profile)  # doctest: +ELLIPSIS
    layer    class      output  parameters  forward ms  backward ms  share
    flatten  Flatten    8x64             0 ...
    """

    def __init__(self, model: Module):
        if not isinstance(model, Module):
            raise TypeError(f"model is {type(model).__name__}; expected a Module")
        self._calls = {}
        for name, module in _named("", model):
            self._calls.setdefault(module, _Calls(name))
        self._within = []

    def __enter__(self):
        for module, calls in self._calls.items():
            calls.before = {name: vars(module)[name] for name in ("forward", "backward") if name in vars(module)}
            module.forward = self._timed(module.forward, calls.forward, calls)
            module.backward = self._timed(module.backward, calls.backward)
        return self

    def __exit__(self, *error):
        for module, calls in self._calls.items():
            del module.forward, module.backward
            vars(module).update(calls.before)

    def _timed(self, method, times, calls=None):
        """The method, adding to ``times`` what it takes without the calls of other modules within."""

        def call(*arguments, **options):
            self._within.append(0.0)
            started = perf_counter()
            try:
                result = method(*arguments, **options)
            finally:
                elapsed = perf_counter() - started
                own = elapsed - self._within.pop()
                if self._within:
                    self._within[-1] += elapsed
            times.append(1e3 * own)
            if calls is not None:
                calls.shape = result.shape
            return result

        return call

    def rows(self) -> list[LayerTime]:
        """A row for each module that was called, in the order of the model; none for a Sequential."""
        called = {module: calls for module, calls in self._calls.items() if calls.forward}
        seen = {module: calls for module, calls in called.items() if not isinstance(module, Sequential)}
        total = sum(calls.total for calls in seen.values())
        return [
            LayerTime(
                calls.name,
                type(module).__name__,
                calls.shape,
                sum(value.value.size for value in vars(module).values() if isinstance(value, Parameter)),
                _median(calls.forward),
                _median(calls.backward),
                calls.total / total,
            )
            for module, calls in seen.items()
        ]

    def __str__(self) -> str:
        rows = self.rows()
        table = [("layer", "class", "output", "parameters", "forward ms", "backward ms", "share")]
        for name, kind, shape, *numbers in [*rows, _sums(rows)]:
            formats = zip(numbers, (",", ".3f", ".3f", ".1%"), strict=True)
            table.append((name, kind, "x".join(map(str, shape)), *(format(*entry) for entry in formats)))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join(_line(line, widths) for line in table)


@dataclass
class _Calls:
    """Milliseconds of a module's calls, and what else is told of it."""

    name: str
    forward: list = field(default_factory=list)
    backward: list = field(default_factory=list)
    shape: tuple = ()
    before: dict = field(default_factory=dict)
    """Methods that the module itself had before, not its class."""

    @property
    def total(self):
        """Of all calls, had each taken the median: the first may have compiled."""
        return sum(len(times) * _median(times) for times in (self.forward, self.backward))


def _median(times):
    return median(times) if times else 0.0


def _sums(rows):
    columns = list(zip(*rows, strict=True))[3:] or [()] * 4
    return LayerTime("all", "", (), *map(sum, columns))


def _line(texts, widths):
    """Names on the left of their columns, numbers on the right."""
    cells = (text.ljust(width) for text, width in zip(texts[:3], widths, strict=False))
    numbers = (text.rjust(width) for text, width in zip(texts[3:], widths[3:], strict=True))
    return "  ".join([*cells, *numbers])


def _named(name, module):
    """All modules with their names, from the outside in."""
    yield name, module
    for child, inside in module.children().items():
        yield from _named(f"{name}.{child}" if name else child, inside)
