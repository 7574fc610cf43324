"""A small trainer: data, the loop, its history, checkpoints and figures.

:func:`fit` trains a model of :mod:`numbabn.nn`; ``numbabn train`` on the command line is made of the same parts.
"""

from .augment import Augment
from .checkpoint import CheckpointError, Place, load_checkpoint, save_checkpoint
from .cifar import cifar10, cifar100
from .data import Dataset, digits
from .evaluate import Evaluation, evaluate, predict
from .figures import save_curves
from .fit import fit
from .folders import DataError
from .history import DivergenceError, History, Record
from .idx import fashion_mnist, mnist
from .normalize import Normalize
from .recipe import load_run
from .sources import load_dataset
from .synthetic import synthetic

__all__ = [
    "Augment",
    "CheckpointError",
    "DataError",
    "Dataset",
    "DivergenceError",
    "Evaluation",
    "History",
    "Normalize",
    "Place",
    "Record",
    "cifar10",
    "cifar100",
    "digits",
    "evaluate",
    "fashion_mnist",
    "fit",
    "load_checkpoint",
    "load_dataset",
    "load_run",
    "mnist",
    "predict",
    "save_checkpoint",
    "save_curves",
    "synthetic",
]
