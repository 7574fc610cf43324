"""A model's loss and accuracy on some images."""

from contextlib import closing
from typing import NamedTuple

import numpy as np

from ..nn import CrossEntropy
from . import batches
from .prefetch import prefetched


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
        That of the :class:`Dataset`, which makes of a batch of its images what the model takes: in a thread, beside the
        model's work on the batch before.

    Returns
    -------
    Evaluation
        Two floats, ``loss`` and ``accuracy``.
    """
    criterion = CrossEntropy(label_smoothing)
    loss, correct = 0.0, 0
    parts = batches.split(np.arange(len(images)), batch_size)

    def batch(indices):
        return images[indices] if transform is None else transform(images[indices])

    with closing(prefetched(batch, parts, ahead=int(transform is not None))) as made:
        for indices, batch_images in zip(parts, made, strict=True):
            logits = model.forward(batch_images, training=False)
            loss += criterion.forward(logits, labels[indices]) * len(indices)
            correct += count_correct(logits, labels[indices])
    return Evaluation(loss / len(images), correct / len(images))


def count_correct(logits: np.ndarray, labels: np.ndarray) -> int:
    """How many images got their highest logit for their label."""
    return int((logits.argmax(axis=1) == labels).sum())
