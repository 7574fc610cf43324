"""A model's loss and accuracy on some images."""

from typing import NamedTuple

import numpy as np

from ..nn import CrossEntropy
from . import batches


class Evaluation(NamedTuple):
    """Means over a set of images."""

    loss: float
    accuracy: float


def evaluate(
    model, images, labels, *, batch_size: int = 64, label_smoothing: float = 0.0, transform=None
) -> Evaluation:
    """Mean loss and accuracy of a model on some images, with running statistics (``training=False``).

    Parameters
    ----------
    model : numbabn.nn.Module
        Left as it is.
    images, labels : numpy.ndarray
        ``(N, ...)`` and ``(N,)``.
    batch_size : int, default 64
        Images per call of the model at most.
    label_smoothing : float, default 0.0
        See :class:`numbabn.nn.CrossEntropy`.
    transform : callable, optional
        That of the :class:`Dataset`, which makes of a batch of its images what the model takes.

    Returns
    -------
    Evaluation
        Two floats, ``loss`` and ``accuracy``.
    """
    criterion = CrossEntropy(label_smoothing)
    loss, correct = 0.0, 0
    for indices in batches.split(np.arange(len(images)), batch_size):
        batch = images[indices]
        logits = model.forward(batch if transform is None else transform(batch), training=False)
        loss += criterion.forward(logits, labels[indices]) * len(indices)
        correct += count_correct(logits, labels[indices])
    return Evaluation(loss / len(images), correct / len(images))


def count_correct(logits: np.ndarray, labels: np.ndarray) -> int:
    """How many images got their highest logit for their label."""
    return int((logits.argmax(axis=1) == labels).sum())
