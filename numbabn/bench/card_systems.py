"""What is measured on a card: numbabn, also with its kernels cut otherwise, and PyTorch's ways to batch norm."""

from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache

import numbabn as nbn

from ..errors import UsageError
from .measure import Cell

EPS, MOMENTUM = 1e-5, 0.1


@dataclass
class Operands:
    """Arguments of one call."""

    x: object
    dy: object
    residual: object
    gamma: object
    beta: object
    running_mean: object
    running_var: object


class System:
    """What is measured."""

    def chosen(self):
        """A context in which all its calls are made."""
        return nullcontext()


class Numbabn(System):
    """This library's functions."""

    def call(self, cell: Cell, given: Operands) -> Callable:
        """A function that computes y, or the gradients with respect to x (and the residual)."""
        fused = {
            "residual": given.residual if "residual" in cell.fused else None,
            "activation": "relu" if "relu" in cell.fused else None,
        }
        parameters = given.gamma, given.beta, given.running_mean, given.running_var
        training = cell.what != "inference"

        def forward():
            return nbn.batch_norm_forward(given.x, *parameters, training=training, eps=EPS, momentum=MOMENTUM, **fused)

        if cell.what != "backward":
            return lambda: forward()[:1]
        _, context = forward()

        def backward():
            grads = nbn.batch_norm_backward(given.dy, context)
            return (grads.dx, grads.dresidual) if fused["residual"] is not None else (grads.dx,)

        return backward


class Recut(Numbabn):
    """The same with some numbers of ``backends.cuda.policy`` changed: what those there are worth."""

    def __init__(self, numbers: dict):
        self.numbers = numbers
        self.launch_for = None
        """That of ``cut``, with a cache of its own: launches keep the kernels that are ready for them."""

    @contextmanager
    def chosen(self):
        from ..backends.cuda import on_device, policy

        before, launch_for = {name: getattr(policy, name) for name in self.numbers}, on_device.launch_for
        self.launch_for = self.launch_for or lru_cache(launch_for.__wrapped__)
        vars(policy).update(self.numbers)
        on_device.launch_for = self.launch_for
        try:
            yield
        finally:
            vars(policy).update(before)
            on_device.launch_for = launch_for


def recut(given: list[str] | None) -> dict:
    """Numbabn's kernels cut in other ways, by name: holding nothing on chip, and with numbers as ``--policy`` has them,
    such as ``"VECTORS=16,TEAM=64"``."""
    found = {"in parts": Recut({"ON_CHIP": 0})}
    for text in given or []:
        pairs = [pair.partition("=") for pair in text.split(",")]
        if not all(name in _cuts() and number.isdecimal() for name, _, number in pairs):
            raise UsageError(f"--policy: {text!r} is unknown; expected NAME=N,..., of {', '.join(_cuts())}")
        found[text] = Recut({name: int(number) for name, _, number in pairs})
    return found


def _cuts():
    """The numbers of the policy that launches are cut by; kernels are compiled with the others."""
    from ..backends.cuda import policy

    return [name for name in vars(policy) if name.isupper() and name not in (*policy.COMPILED, "COMPILED", "SIMULATED")]


class _Torch(System):
    """``F.batch_norm`` and what follows it, in calls of their own, and autograd."""

    def __init__(self, torch):
        self.torch = torch

    def layer(self, x, residual, parameters, training, relu):
        functional = self.torch.nn.functional
        gamma, beta, *running = parameters
        y = functional.batch_norm(x, *running, gamma, beta, training, MOMENTUM, EPS)
        if residual is not None:
            y = y + residual
        return functional.relu(y) if relu else y

    def call(self, cell, given):
        residual = given.residual if "residual" in cell.fused else None
        training, relu = cell.what != "inference", "relu" in cell.fused
        parameters = given.gamma, given.beta, given.running_mean, given.running_var
        if cell.what != "backward":
            return lambda: (self.layer(given.x, residual, parameters, training, relu),)
        wanted = [given.x, *([] if residual is None else [residual])]
        inputs = [array.detach().requires_grad_() for array in (*wanted, given.gamma, given.beta)]
        x, residual = inputs[0], None if residual is None else inputs[1]
        y = self.layer(x, residual, (*inputs[-2:], *parameters[2:]), training, relu)
        return lambda: self.torch.autograd.grad(y, inputs, given.dy, retain_graph=True)[: len(wanted)]


class _Flagged(_Torch):
    """With or without cuDNN. (PyTorch does not choose it for bfloat16 even then.)"""

    def __init__(self, torch, enabled):
        super().__init__(torch)
        self.enabled = enabled

    def chosen(self):
        return self.torch.backends.cudnn.flags(enabled=self.enabled)


class _Compiled(_Torch):
    """Made one kernel by ``torch.compile``, for each shape anew: after a few it would compile no more."""

    def __init__(self, torch):
        super().__init__(torch)
        self.layer, self.cell = torch.compile(self.layer, dynamic=False), None

    def call(self, cell, given):
        if cell != self.cell:
            self.torch.compiler.reset()
            self.cell = cell
        return super().call(cell, given)


def of_torch(torch) -> dict:
    """PyTorch's ways to batch norm, by name."""
    native, cudnn = (_Flagged(torch, enabled) for enabled in (False, True))
    return {"PyTorch": native, "cuDNN": cudnn, "compiled": _Compiled(torch)}
