"""The problem that every worker is given: the same arrays from the same seed."""

from dataclasses import dataclass

import numpy as np

EPS = 1e-5
MOMENTUM = 0.1

PAGE = 4096
STAGGER = PAGE + 9 * 64
"""Bytes between the starts of arrays, modulo all larger powers of two. Where one array was written while another was
read that starts less than 2 KB from it modulo 2 MB, a copy of 100 MB took 9.3 ms; with this distance, 8.2 ms."""


class UnsupportedError(Exception):
    """What a system has no way to compute."""


@dataclass(frozen=True)
class Problem:
    """What to compute, on which arrays.

    ``what`` is ``"forward"`` (training), ``"backward"`` or ``"inference"``, ``fused`` is ``"none"``, ``"relu"`` or
    ``"residual+relu"``; ``x``, ``dy`` and ``residual`` lie in memory
    as ``layout`` says (``"NCHW"``, ``"NHWC"`` or ``"NC"``); parameters and running statistics have one value for each
    channel. All have the same dtype.
    """

    what: str
    fused: str
    layout: str
    reuse: bool
    """Whether results go to memory that was used before, where there is a choice."""
    x: np.ndarray
    dy: np.ndarray
    residual: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    running_mean: np.ndarray
    running_var: np.ndarray

    @property
    def axis(self):
        """Where the channels are."""
        return 3 if self.layout == "NHWC" else 1

    @property
    def relu(self):
        """Whether ReLU comes last."""
        return self.fused != "none"

    @property
    def has_residual(self):
        """Whether the residual is added before that."""
        return self.fused == "residual+relu"


def placed(number: int, shape, dtype) -> np.ndarray:
    """Zeros for the ``number``-th large array of a problem, at a place of its own: see ``STAGGER``.

    Where arrays start is then no matter of luck and the same for all systems. ``x``, ``dy`` and ``residual`` have the
    numbers 0 to 2, results those from 3.

    Examples
    --------
    >>> placed(3, (2, 5), "float32").ctypes.data % PAGE == 3 * STAGGER % PAGE
    True
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + PAGE + number * STAGGER, np.uint8)
    first = -memory.ctypes.data % PAGE + number * STAGGER
    values = memory[first : first + size].view(dtype).reshape(shape)
    values[...] = 0.0  # pages are there from now on, not from the first time that counts
    return values


def arrays(shape, layout, dtype):
    """The arrays of a :class:`Problem` by name, for a shape written channels-first."""
    rng = np.random.default_rng([*shape, 1])
    channels = shape[1]
    if layout == "NHWC":
        shape = (shape[0], *shape[2:], shape[1])

    def like_x(number, mean, std):
        values = placed(number, shape, dtype)
        rng.standard_normal(dtype=values.dtype, out=values)
        values *= std
        values += mean
        return values

    def per_channel(values):
        return values.astype(dtype)

    return {
        "x": like_x(0, 1.0, 2.0),
        "dy": like_x(1, 0.1, 1.0),
        "residual": like_x(2, 0.0, 1.0),
        "gamma": per_channel(rng.normal(1.0, 0.3, channels)),
        "beta": per_channel(rng.normal(0.0, 0.3, channels)),
        "running_mean": per_channel(rng.normal(1.0, 0.3, channels)),
        "running_var": per_channel(rng.uniform(2.0, 6.0, channels)),
    }
