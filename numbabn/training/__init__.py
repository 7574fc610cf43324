"""A small trainer: data, the loop, its history, checkpoints and figures.

:func:`fit` trains a model of :mod:`numbabn.nn`; ``numbabn train`` on the command line is made of the same parts.
"""

from .checkpoint import CheckpointError, Place
from .checkpoint import load as load_checkpoint
from .checkpoint import save as save_checkpoint
from .data import Dataset, digits
from .evaluate import Evaluation, evaluate
from .figures import save_curves
from .fit import fit
from .history import History, Record

__all__ = [
    "CheckpointError",
    "Dataset",
    "Evaluation",
    "History",
    "Place",
    "Record",
    "digits",
    "evaluate",
    "fit",
    "load_checkpoint",
    "save_checkpoint",
    "save_curves",
]
