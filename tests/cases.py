"""Inputs that tests (and benchmarks) share: shapes where kernels turn corners, and the arrays that fill them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Case:
    """An array's shape as its owner sees it, its channel axis, and how it lies in memory."""

    name: str
    shape: tuple[int, ...]
    axis: int = 1
    memory: str = "C"

    @property
    def channels(self):
        return self.shape[self.axis]

    @property
    def count(self):
        """Values per channel."""
        return int(np.prod(self.shape)) // self.channels

    def place(self, values):
        """A copy of ``values`` in this case's memory order; only one with gaps cannot be used where it lies."""
        if self.memory in ("C", "F"):
            return values.copy(order=self.memory)
        if self.memory == "channels_last":
            return np.moveaxis(np.moveaxis(values, self.axis, -1).copy(order="C"), -1, self.axis)
        shape = values.shape[0], *(2 * n + 1 for n in values.shape[1:])
        padded = np.full(shape, np.nan if values.dtype.kind == "f" else 0x7FFF, values.dtype)
        window = padded[(slice(None), *(slice(1, None, 2) for _ in values.shape[1:]))]
        window[...] = values
        return window


CASES = [
    Case("NC", (33, 7)),
    Case("NC-tall", (1025, 5)),
    Case("NC-wide", (3, 4099)),
    Case("NC-wider", (5, 20_001)),
    Case("NC-wide-nine", (9, 2101)),
    Case("NC-one-channel", (4097, 1)),
    Case("NC-65", (257, 65)),
    Case("NC-transposed", (300, 20), memory="F"),
    Case("NCL", (5, 3, 17)),
    Case("NCL-pieces", (2, 3, 9001)),
    Case("NCL-one-channel", (1, 1, 70_001)),
    Case("NCHW", (4, 6, 7, 7)),
    Case("NCHW-many-runs", (40, 3, 28, 28)),
    Case("NCHW-one-spatial", (9, 5, 1, 1)),
    Case("NCHW-two-values", (2, 5, 1, 1)),
    Case("NCHW-2x2", (7, 10, 2, 2)),
    Case("NCHW-few", (2, 300, 2, 3)),
    Case("NCHW-parallel", (16, 33, 9, 11)),
    Case("NCHW-crowded", (4, 136, 4, 8)),
    Case("NCHW-channels-last", (3, 13, 5, 5), memory="channels_last"),
    Case("NCHW-gaps", (3, 4, 5, 6), memory="gaps"),
    Case("NCHW-fortran", (3, 4, 5, 6), memory="F"),
    Case("NCDHW", (2, 3, 4, 5, 6)),
    Case("NLC", (5, 17, 3), axis=-1),
    Case("NHWC", (8, 15, 15, 19), axis=-1),
    Case("NHWC-parallel", (16, 14, 14, 24), axis=-1),
    Case("NDHWC", (2, 3, 4, 5, 6), axis=-1),
    Case("axis-0", (4, 6, 10), axis=0),
]

BENCHMARKS = [
    Case("NCHW-32x64x56x56", (32, 64, 56, 56)),
    Case("NCHW-32x256x14x14", (32, 256, 14, 14)),
    Case("NCHW-32x512x7x7", (32, 512, 7, 7)),
    Case("NHWC-32x56x56x64", (32, 56, 56, 64), axis=-1),
    Case("NHWC-32x14x14x256", (32, 14, 14, 256), axis=-1),
    Case("NHWC-32x7x7x512", (32, 7, 7, 512), axis=-1),
    Case("NC-100000x32", (100_000, 32)),
]
"""What asv times, commit by commit: three layers of a ResNet-50 in both layouts, and a tall table. Named by shape."""

TINY = [Case("NCHW-8x16x8x8", (8, 16, 8, 8)), Case("NC-32x10", (32, 10)), Case("NC-4x2048", (4, 2048))]
"""Arrays so small that asv times the call itself."""

EPILOGUES = [(None, False), ("relu", False), (None, True), ("relu", True)]
"""(activation, whether there is a residual)."""


@dataclass
class Operands:
    """Arguments of a call: ``arrays`` for all dtypes hold the same values."""

    x: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    running_mean: np.ndarray
    running_var: np.ndarray
    residual: np.ndarray
    dy: np.ndarray

    def astype(self, dtype):
        """Copies in another dtype."""
        return Operands(**{name: value.astype(dtype) for name, value in vars(self).items()})

    def rounded(self, dtype):
        """Float64 copies in which data holds values of a dtype, such as "bfloat16", and parameters those of float32."""
        copies = self.astype("float64")
        if dtype in ("float16", "bfloat16"):
            for name in ("x", "residual", "dy"):
                setattr(copies, name, rounded(getattr(copies, name), dtype))
        return copies


def operands(case, seed=0, mean=3.0, std=2.0):
    """Random operands whose values float32 holds exactly, so that every dtype is given the same problem."""
    rng = np.random.default_rng([seed, *case.shape])

    def like_x(loc, scale):
        return rng.normal(loc, scale, case.shape).astype(np.float32).astype(np.float64)

    def per_channel(loc, scale):
        return rng.normal(loc, scale, case.channels).astype(np.float32).astype(np.float64)

    return Operands(
        x=like_x(mean, std),
        gamma=per_channel(1.0, 0.5),
        beta=per_channel(0.0, 0.5),
        running_mean=per_channel(mean, 0.5),
        running_var=per_channel(0.0, 1.0) ** 2 + 0.5,
        residual=like_x(0.0, 1.0),
        dy=like_x(0.1, 1.0),
    )


def rounded(values, dtype):
    """Float64 values rounded to those of float16, or cut to those of bfloat16."""
    return decoded(encoded(values, dtype))


def encoded(values, dtype):
    """Values as an array of a dtype; those of bfloat16, which NumPy does not have, by their bits."""
    if dtype == "bfloat16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(dtype)


def decoded(array):
    """The inverse, as float64."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return array.astype(np.float64)
