"""A model's outputs for some images, and its loss and accuracy on them."""

from contextlib import closing
from typing import NamedTuple

import numpy as np

from ..nn import CrossEntropy
from ..nn.checks import whole
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

    Raises
    ------
    ValueError
        If there are no images, or not one label for each, or the model does not take them.

    Examples
    --------
    >>> from numbabn import nn
    >>> model = nn.Sequential(nn.BatchNorm(2, affine=False))
    >>> evaluate(model, np.eye(2), np.array([0, 1])).accuracy
    1.0
    """
    labels = np.asarray(labels)
    if labels.shape != (len(images),):
        raise ValueError(f"labels has shape {labels.shape}; expected ({len(images)},), one for each image")
    criterion = CrossEntropy(label_smoothing)
    loss, correct = 0.0, 0
    for indices, logits in _logits(model, images, batch_size, transform):
        loss += criterion.forward(logits, labels[indices]) * len(indices)
        correct += count_correct(logits, labels[indices])
    return Evaluation(loss / len(images), correct / len(images))


def predict(model, images, *, batch_size: int = 64, transform=None) -> np.ndarray:
    """A model's outputs for some images, with running statistics (``training=False``).

    Parameters
    ----------
    model, images, batch_size, transform
        See :func:`evaluate`.

    Returns
    -------
    numpy.ndarray
        Of a classifier the logits, shape ``(N, classes)``; ``.argmax(axis=1)`` of them are the predicted labels.

    Raises
    ------
    ValueError
        If there are no images, or the model does not take them.

    Examples
    --------
    >>> from numbabn import nn
    >>> predict(nn.Linear(2, 3, rng=0), np.ones((5, 2), np.float32), batch_size=2).shape
    (5, 3)
    """
    return np.concatenate([logits.copy() for _, logits in _logits(model, images, batch_size, transform)])


def _logits(model, images, batch_size, transform):
    """Indices and outputs of one batch after another; the next is transformed while the model works on one."""
    batch_size = whole("batch_size", batch_size, 1)
    if len(images) == 0:
        raise ValueError("images is empty; expected at least one image")
    parts = batches.split(np.arange(len(images)), batch_size)

    def batch(indices):
        return images[indices] if transform is None else transform(images[indices])

    with closing(prefetched(batch, parts, ahead=int(transform is not None))) as made:
        for indices, made_batch in zip(parts, made, strict=True):
            yield indices, model.forward(made_batch, training=False)


def count_correct(logits: np.ndarray, labels: np.ndarray) -> int:
    """How many images got their highest logit for their label."""
    return int((logits.argmax(axis=1) == labels).sum())
