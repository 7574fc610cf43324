"""Compiling ahead, so that no later call has to wait for it."""

import numpy as np

from .checks import FLOATS
from .functional import batch_norm_backward, batch_norm_forward, batch_stats

ROWS = ((2, 64), (2, 8192), (64, 64), (2_000, 64))
PLANES = ((2, 3, 64), (128, 256, 32))
"""Small enough for one thread; large enough for several. The first two of ROWS are for the CPU's ``few``."""

SHAPES = {"NHWC": ROWS, "NCHW": ROWS + PLANES}
"""Channels-first arrays with short rows use both families."""


def warmup(dtypes=("float32",), layouts=("NCHW", "NHWC")):
    """Compile the CPU kernels for the given dtypes and layouts, or load them from Numba's cache.

    Parameters
    ----------
    dtypes : {float32, float64} or several of them, as names or dtypes
    layouts : {"NCHW", "NHWC"} or both
        ``"NCHW"`` stands for all arrays with values behind the channel axis, ``"NHWC"`` for all with channels last,
        (N, C) among them.

    Raises
    ------
    ValueError
        For an unknown dtype or layout, before anything is compiled.

    Examples
    --------
    >>> import numbabn as nbn
    >>> nbn.warmup(layouts=["NHWC"])  # a minute the first time on a machine
    """
    dtypes, layouts = (
        [value] if isinstance(value, (str, type, np.dtype)) else list(value) for value in (dtypes, layouts)
    )
    for dtype in dtypes:
        if dtype not in FLOATS:
            raise ValueError(f"dtypes has {dtype!r}; expected 'float32' or 'float64'")
    for layout in layouts:
        if layout not in SHAPES:
            raise ValueError(f"layouts has {layout!r}; expected 'NCHW' or 'NHWC'")
    for dtype in dtypes:
        for shape in max((SHAPES[layout] for layout in layouts), key=len, default=()):
            _run(np.linspace(-1.0, 1.0, int(np.prod(shape)), dtype=dtype).reshape(shape))


def _run(x):
    """Every kernel that a shape reaches: flags are arguments, and need no compiling of their own."""
    running_mean, running_var = np.zeros(x.shape[1], x.dtype), np.ones(x.shape[1], x.dtype)
    for training in (True, False):
        _, context = batch_norm_forward(x, None, None, running_mean, running_var, training=training, backend="cpu")
        batch_norm_backward(x, context)
    batch_stats(x, backend="cpu")
