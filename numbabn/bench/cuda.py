"""``numbabn bench --device cuda``: numbabn beside PyTorch's ways to batch norm, on one card and in one process.

Times are those between CUDA events, while the card has calls enough in its queue; what the host takes to queue one is
told beside them. Buffers are rotated, so that no call finds its data in the L2 cache. Without PyTorch, CuPy makes the
arrays; then only the copy and numbabn's own kernels, cut in other ways, stand beside it.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from itertools import pairwise
from math import ceil, prod
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

import numbabn as nbn

from ..errors import UsageError
from .measure import Cell, Effort, moved, summary

EPS, MOMENTUM = 1e-5, 0.1
DRIVER = Path("/proc/driver/nvidia/version")

ROTATED = 1 << 28
"""Bytes of all buffers together at least, several times the L2 cache of any card so far (60 MB on an H200)."""

MOST_SETS = 64
WARM_UPS = 3

QUEUED = 64
"""Calls that are queued at a time: with a few launches each, they fit the card's queue, which holds about 1,000."""

CLOCK = 2e9
"""Cycles a second of the card's clock, at most."""

BUSY = 'extern "C" __global__ void busy(long long n) { for (long long begun = clock64(); clock64() - begun < n;); }'
"""A kernel that runs for so many cycles, which CuPy compiles."""

LIMITS = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}
"""Largest error of a result that is timed: its Euclidean norm in units of the result's."""


class Timed:
    """How calls are timed, by the events of a library."""

    def times(self, calls, hold):
        """Seconds that the card is busy with each of some calls, and seconds that the host takes to queue each.

        The card waits ``hold`` seconds, for all of them to be queued: else a short one would take the host's time.
        """
        events, host = [self.event() for _ in range(len(calls) + 1)], []
        self.wait(int(hold * CLOCK))
        events[0].record()
        for call, event in zip(calls, events[1:], strict=True):
            begun = perf_counter()
            call()
            host.append(perf_counter() - begun)
            event.record()
        self.synchronize()
        return [self.milliseconds(*pair) / 1e3 for pair in pairwise(events)], host


class WithTorch(Timed):
    """Arrays, events and peers of PyTorch."""

    def __init__(self):
        import torch

        self.torch = torch
        self.library = f"PyTorch {torch.__version__}"
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self.card = properties.name
        self.multiprocessors, self.cache = properties.multi_processor_count, properties.L2_cache_size
        self.generator = torch.Generator("cuda").manual_seed(0)
        self.versions = [self.library, f"cuDNN {torch.backends.cudnn.version()}", f"numba-cuda {version('numba-cuda')}"]

    def normal(self, shape, dtype, mean=0.0, std=1.0):
        """Random values of a normal distribution."""
        values = self.torch.randn(shape, generator=self.generator, device="cuda") * std + mean
        return values.to(getattr(self.torch, dtype))

    def channels_last(self, array):
        """Those values of an NCHW array, presented alike, with channels last in memory."""
        return array.to(memory_format=self.torch.channels_last)

    def float64(self, array):
        return array.double()

    def event(self):
        return self.torch.cuda.Event(enable_timing=True)

    def milliseconds(self, first, last):
        return first.elapsed_time(last)

    def wait(self, cycles):
        """Keep the card busy, and not the host."""
        self.torch.cuda._sleep(cycles)

    def synchronize(self):
        self.torch.cuda.synchronize()

    def copy(self, source, target):
        target.copy_(source)

    def peers(self):
        """What stands beside numbabn, by name."""
        native, cudnn = (_Flagged(self.torch, enabled) for enabled in (False, True))
        return {"PyTorch": native, "cuDNN": cudnn, "compiled": _Compiled(self.torch)}


class WithCuPy(Timed):
    """Arrays and events of CuPy."""

    def __init__(self):
        import cupy

        self.cupy = cupy
        self.library = f"CuPy {cupy.__version__}"
        self.versions = [self.library, f"numba-cuda {version('numba-cuda')}"]
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        self.card = properties["name"].decode()
        self.multiprocessors, self.cache = properties["multiProcessorCount"], properties["l2CacheSize"]
        self.generator = cupy.random.default_rng(0)
        self.busy = cupy.RawKernel(BUSY, "busy")

    def normal(self, shape, dtype, mean=0.0, std=1.0):
        if dtype == "bfloat16":
            raise UsageError("--dtype bfloat16 needs PyTorch")
        return (self.generator.standard_normal(shape, dtype="float32") * std + mean).astype(dtype)

    def channels_last(self, array):
        return self.cupy.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    def float64(self, array):
        return array.astype("float64")

    def event(self):
        return self.cupy.cuda.Event()

    def milliseconds(self, first, last):
        return self.cupy.cuda.get_elapsed_time(first, last)

    def wait(self, cycles):
        self.busy((1,), (1,), (cycles,))

    def synchronize(self):
        self.cupy.cuda.Device().synchronize()

    def copy(self, source, target):
        target[...] = source

    def peers(self):
        return {}


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


class Numbabn:
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


class Otherwise(Numbabn):
    """The same with some numbers of ``backends.cuda.policy`` changed: what those there are worth."""

    def __init__(self, numbers: dict):
        self.numbers = numbers
        self.launch_for = None

    @contextlib.contextmanager
    def _changed(self):
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

    def call(self, cell, given):
        with self._changed():
            call = super().call(cell, given)

        def changed():
            with self._changed():
                return call()

        return changed


def otherwise(given: list[str] | None) -> dict:
    """Numbabn cut in other ways, by name: without anything on chip, and as ``--policy`` says.

    Examples
    --------
    >>> list(otherwise(["VECTORS=16,TEAM=64"]))
    ['in parts', 'VECTORS=16,TEAM=64']
    """
    found = {"in parts": Otherwise({"ON_CHIP": 0})}
    for text in given or []:
        numbers = dict(re.findall(r"(\w+)=(\d+)(?:,|$)", text))
        if ",".join("=".join(pair) for pair in numbers.items()) != text or not set(numbers) <= set(_cuts()):
            raise UsageError(f"--policy: {text!r} is unknown; expected NAME=N,..., of {', '.join(_cuts())}")
        found[text] = Otherwise({name: int(number) for name, number in numbers.items()})
    return found


def _cuts():
    """The names in ``policy`` that kernels are not compiled with."""
    from ..backends.cuda import policy

    compiled = "BLOCKS_EACH", "LANES_OF_FLOAT64", "SETTLERS", "THREADS", "WIDTH"
    return [name for name, value in vars(policy).items() if type(value) is int and name not in compiled]


class _Torch:
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
            return lambda: self._no_grad(given.x, residual, parameters, training, relu)
        wanted = [given.x, *([] if residual is None else [residual])]
        inputs = [array.detach().requires_grad_() for array in (*wanted, given.gamma, given.beta)]
        x, residual = inputs[0], None if residual is None else inputs[1]
        y = self.layer(x, residual, (*inputs[-2:], *parameters[2:]), training, relu)
        return lambda: self.torch.autograd.grad(y, inputs, given.dy, retain_graph=True)[: len(wanted)]

    def _no_grad(self, *arguments):
        with self.torch.no_grad():
            return (self.layer(*arguments),)


class _Flagged(_Torch):
    """With or without cuDNN. (PyTorch does not choose it for bfloat16 even then.)"""

    def __init__(self, torch, enabled):
        super().__init__(torch)
        self.enabled = enabled

    def call(self, cell, given):
        with self.torch.backends.cudnn.flags(enabled=self.enabled):
            call = super().call(cell, given)

        def flagged():
            with self.torch.backends.cudnn.flags(enabled=self.enabled):
                return call()

        return flagged


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


def library():
    """PyTorch, or else CuPy."""
    for kind in (WithTorch, WithCuPy):
        try:
            return kind()
        except ImportError:
            pass
    raise UsageError("--device cuda needs PyTorch or CuPy, whose arrays it measures on")


def describe(arrays) -> dict:
    """The card, and what drives it."""
    driver = re.search(r"  (\d+\.[\d.]+)  ", DRIVER.read_text()) if DRIVER.exists() else None
    return {
        "card": arrays.card,
        "multiprocessors": arrays.multiprocessors,
        "caches": {"L2": f"{arrays.cache / 2**20:.0f} MiB"},
        "driver": driver[1] if driver else "unknown",
        "versions": [f"numbabn {nbn.__version__}", *arrays.versions],
    }


def version_of(system, arrays) -> str:
    """What is told of a system in a report."""
    return nbn.__version__ if isinstance(system, Numbabn) else arrays.library


def measure(cell: Cell, arrays, systems: dict, dtype: str, effort: Effort, advance=lambda: None) -> dict:
    """Measure one cell: as ``measure.measure``, whose results have the same form.

    Parameters
    ----------
    cell : Cell
    arrays : WithTorch or WithCuPy
    systems : dict
        By name; numbabn first.
    dtype : {"float32", "float64", "float16", "bfloat16"}
    effort : Effort
    advance : callable
        Called after each turn.
    """
    size = sum(moved(cell.what, cell.fused)) * prod(cell.shape) * (2 if "16" in dtype else np.dtype(dtype).itemsize)
    sets = [_operands(cell, arrays, dtype) for _ in range(min(MOST_SETS, ceil(ROTATED / size)))]
    expected = _expected(cell, arrays, sets[0], 10 * LIMITS[dtype])
    calls, notes = {}, {}
    for name, system in systems.items():
        try:
            calls[name] = [system.call(cell, given) for given in sets]
            _check(arrays, calls[name][0](), expected, LIMITS[dtype])
        except Exception as error:  # of a peer: whatever keeps it from a right result is told in the table
            if name == next(iter(systems)):
                raise
            notes[name] = (
                f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
            )
    halves = [[arrays.normal((size // 2 // 4,), "float32") for _ in range(2)] for _ in sets]
    calls["limit_copy"] = [lambda pair=pair: arrays.copy(*pair) for pair in halves]
    samples = {name: ([], []) for name in calls if name not in notes}
    for number in range(effort.rounds):
        order = [*samples][number % len(samples) :] + [*samples][: number % len(samples)]
        for name in order:
            for kept, found in zip(samples[name], _turn(arrays, calls[name], effort.of_round(number)), strict=True):
                kept += found
            if name != "limit_copy":
                advance()
    found = {name: {**summary(card, size), "host": median(host)} for name, (card, host) in samples.items()}
    limit = {"kind": "limit_copy", **found["limit_copy"]}
    times = {name: {"note": notes[name]} if name in notes else found[name] for name in systems}
    return {**asdict(cell), "bytes": size, "limit": limit, "times": times}


def _turn(arrays, calls, effort):
    """Seconds of some calls, on one set of buffers after the other: the card's, and the host's."""
    card, host = arrays.times([calls[number % len(calls)] for number in range(WARM_UPS)], 0)
    each = median(card)
    count = effort.get("calls") or max(len(calls), min(1000, ceil(effort["seconds"] / each)))
    found = [], []
    for first in range(0, count, QUEUED):
        some = [calls[number % len(calls)] for number in range(first, min(first + QUEUED, count))]
        for kept, times in zip(found, arrays.times(some, 2 * len(some) * median(host)), strict=True):
            kept += times
    return found


def _operands(cell, arrays, dtype):
    """Random arguments of a call, in the cell's layout."""
    x, dy, residual = arrays.normal(cell.shape, dtype, 1.0, 2.0), *(arrays.normal(cell.shape, dtype) for _ in range(2))
    if cell.layout == "NHWC":
        x, dy, residual = map(arrays.channels_last, (x, dy, residual))
    real = "float64" if dtype == "float64" else "float32"
    gamma, beta, mean, var = (arrays.normal((cell.shape[1],), real, loc, 0.1) for loc in (1.0, 0.0, 1.0, 4.0))
    return Operands(x, dy, residual, gamma, beta, mean, var)


def _expected(cell, arrays, given, margin):
    """Results in float64, by the formulas as they stand in the textbook.

    Within a ``margin`` of ReLU's kink, where rounding decides whether a gradient passes, ``given.dy`` becomes 0.
    """
    shape = 1, -1, *(1,) * (len(cell.shape) - 2)
    axes = 0, *range(2, len(cell.shape))
    x, residual = map(arrays.float64, (given.x, given.residual))
    gamma, beta, mean, var = (
        arrays.float64(value).reshape(shape)
        for value in (given.gamma, given.beta, given.running_mean, given.running_var)
    )
    if cell.what != "inference":
        mean = x.mean(axes).reshape(shape)
        var = ((x - mean) ** 2).mean(axes).reshape(shape)
    scale = (var + EPS) ** -0.5
    xhat = (x - mean) * scale
    y = xhat * gamma + beta + (residual if "residual" in cell.fused else 0.0)
    if "relu" in cell.fused:
        given.dy *= abs(y) > margin
        y = y * (y > 0)
    if cell.what != "backward":
        return (y,)
    dy = arrays.float64(given.dy) * (y > 0) if "relu" in cell.fused else arrays.float64(given.dy)
    means = dy.mean(axes).reshape(shape), (dy * xhat).mean(axes).reshape(shape)
    dx = gamma * scale * (dy - means[0] - xhat * means[1])
    return (dx, dy) if "residual" in cell.fused else (dx,)


def _check(arrays, actual, expected, limit):
    """Refuse a wrong result."""
    for one, other in zip(actual, expected, strict=True):
        error = float(((arrays.float64(one) - other) ** 2).mean() / (other**2).mean()) ** 0.5
        if not error <= limit:
            raise ValueError(f"wrong result: relative error {error:.1e}")
