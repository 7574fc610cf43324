"""Batch normalization on arrays, in parallel kernels for CPUs and NVIDIA GPUs.

Start with :func:`batch_norm`; :func:`batch_norm_forward` and :func:`batch_norm_backward` are the pair for training,
:mod:`numbabn.nn` has layers made of them, :mod:`numbabn.training` a small trainer.
"""

import importlib

from . import forks as forks  # first, so that it hears of every fork
from .backends import BackendStatus, backends, use_backend
from .functional import batch_norm, batch_norm_backward, batch_norm_forward, batch_stats
from .results import Context, Gradients, Statistics
from .warming import warmup

__version__ = "0.1.0"

__all__ = [
    "BackendStatus",
    "Context",
    "Gradients",
    "Statistics",
    "backends",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_stats",
    "nn",
    "training",
    "use_backend",
    "warmup",
]


def __getattr__(name):
    """Import ``numbabn.nn`` and ``numbabn.training`` when they are first asked for."""
    if name in ("nn", "training"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    """The public names, also those that are not imported yet."""
    return [*__all__, "__version__"]
