"""What layers may be given. Each error names the argument, what was given and what was expected."""

from numbers import Real

import numpy as np

from ..checks import FLOATS, data_array, number

__all__ = ["choice", "data_array", "float_dtype", "fraction", "gradient", "layer_input", "number", "pair", "whole"]


def float_dtype(dtype) -> np.dtype:
    """The dtype of a layer's parameters."""
    dtype = np.dtype(dtype)
    if dtype not in FLOATS:
        raise TypeError(f"dtype is {dtype}; expected float32 or float64")
    return dtype


def choice(name: str, value, options: tuple):
    """One of a few values, each a string or None."""
    if not (value is None or isinstance(value, str)) or value not in options:
        raise ValueError(f"{name} is {value!r}; expected {' or '.join(map(repr, options))}")
    return value


def fraction(name: str, value) -> float:
    """A number from 0 to below 1."""
    if isinstance(value, Real) and not (0 <= value < 1):
        raise ValueError(f"{name} is {value!r}; expected a number of at least 0 and less than 1")
    return number(name, value, 0, 1)


def whole(name: str, value, least: int) -> int:
    """An integer that is at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    if value < least:
        raise ValueError(f"{name} is {value}; expected at least {least}")
    return int(value)


def pair(name: str, value, least: int) -> tuple[int, int]:
    """One integer for both directions, or a (vertical, horizontal) pair."""
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{name} has {len(values)} values; expected one, or a pair (vertical, horizontal)")
    return whole(name, values[0], least), whole(name, values[1], least)


def layer_input(x, shape: tuple, dtype=None, name: str = "x") -> np.ndarray:
    """``x`` as an array whose shape fits ``shape``, in which a name stands for any size: ``("N", 3, "H", "W")``.

    Only the number of images, N, may be 0.
    """
    x = data_array(name, x)
    fits = len(x.shape) == len(shape) and all(
        size == expected or (isinstance(expected, str) and (size > 0 or expected == "N"))
        for size, expected in zip(x.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} has shape {x.shape}; expected ({', '.join(map(str, shape))})")
    if dtype is not None and x.dtype != dtype:
        raise TypeError(f"{name} has dtype {x.dtype}; expected {dtype}, the dtype of the layer's parameters")
    return x


def gradient(dy, shape: tuple[int, ...], dtype) -> np.ndarray:
    """The gradient of a loss by a layer's last output, which had this shape and dtype."""
    dy = data_array("dy", dy)
    if dy.shape != shape:
        raise ValueError(f"dy has shape {dy.shape}; expected that of the layer's last output, {shape}")
    if dy.dtype != dtype:
        raise TypeError(f"dy has dtype {dy.dtype}; expected that of the layer's last output, {dtype}")
    return dy
