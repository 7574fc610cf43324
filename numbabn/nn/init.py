"""Initial values of weights."""

from math import prod, sqrt

import numpy as np

from .checks import float_dtype


def he_normal(shape: tuple[int, ...], rng=None, dtype=np.float32) -> np.ndarray:
    """Normally distributed weights that keep the size of activations from layer to layer under ReLU.

    Parameters
    ----------
    shape : tuple of int
        Outputs first: ``(out_features, in_features)`` or ``(filters, channels, height, width)``.
    rng : numpy.random.Generator, int or None
        Source of the numbers, or the seed of one; None is different every time.
    dtype : {float32, float64}

    Returns
    -------
    array of the given shape
        With standard deviation ``sqrt(2 / fan_in)``, where fan_in is the number of values per output.

    Notes
    -----
    Source: K. He et al., "Delving Deep into Rectifiers", 2015, equation 10.

    Examples
    --------
    >>> from numbabn import nn
    >>> weight = nn.he_normal((100, 50), rng=0)
    >>> round(float(weight.std()), 2)  # sqrt(2 / 50) = 0.2
    0.2
    """
    numbers = np.random.default_rng(rng).standard_normal(shape, dtype=float_dtype(dtype).type)
    numbers *= sqrt(2 / max(1, prod(shape[1:])))
    return numbers
