"""Losses."""

import numpy as np

from . import checks
from .memory import Buffers, gradients


class CrossEntropy:
    """Mean over a batch of ``-sum(target * log(softmax(logits)))``.

    Parameters
    ----------
    label_smoothing : float in [0, 1]
        The target is ``1 - label_smoothing`` for the label, plus ``label_smoothing / classes`` for every class.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> loss = nn.CrossEntropy()
    >>> loss.forward(np.array([[0.0, 0.0]]), np.array([1]))  # log(2)
    0.6931471805599453
    >>> loss.backward()
    array([[ 0.5, -0.5]])
    """

    def __init__(self, label_smoothing: float = 0.0):
        self.label_smoothing = checks.number("label_smoothing", label_smoothing, 0, 1)
        self._buffers = Buffers()
        self._saved = None

    def forward(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """The loss for logits of shape (N, classes) and labels, integers from 0 of shape (N,).

        A logit that is infinite or NaN makes it NaN.
        """
        logits = checks.layer_input(logits, ("N", "classes"), name="logits")
        labels = _check_labels(labels, logits.shape)
        smoothing, classes = self.label_smoothing, logits.shape[1]
        softmax = self._buffers.take("softmax", logits.shape, logits.dtype)
        with np.errstate(invalid="ignore"):  # Inf - Inf
            np.subtract(logits, logits.max(axis=1, keepdims=True), out=softmax)
        target = (1 - smoothing) * softmax[np.arange(len(labels)), labels]
        if smoothing:
            target += smoothing / classes * softmax.sum(axis=1)
        np.exp(softmax, out=softmax)
        total = softmax.sum(axis=1, keepdims=True)
        softmax /= total
        self._saved = softmax, labels
        return float((np.log(total[:, 0]) - target).mean(dtype=np.float64))

    def backward(self) -> np.ndarray:
        """Gradient of the last loss by the logits, ``(softmax - target) / N``."""
        if self._saved is None:
            raise RuntimeError("CrossEntropy.backward was called before forward")
        softmax, labels = self._saved
        count, classes = softmax.shape
        dlogits = gradients.take(softmax.shape, softmax.dtype)
        np.subtract(softmax, self.label_smoothing / classes, out=dlogits)
        dlogits[np.arange(count), labels] -= 1 - self.label_smoothing
        dlogits /= count
        return dlogits


def _check_labels(labels, shape):
    labels = np.asarray(labels)
    count, classes = shape
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels has dtype {labels.dtype}; expected integers")
    if labels.shape != (count,):
        raise ValueError(f"labels has shape {labels.shape}; expected ({count},), one for each row of logits")
    if count == 0:
        raise ValueError("logits has no rows; expected at least one, since the loss is a mean")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels has values from {labels.min()} to {labels.max()}; expected 0 to {classes - 1}")
    return labels
