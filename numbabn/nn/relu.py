"""The gradient of ReLU, which several layers need; they apply ReLU itself within passes of their own."""

import numpy as np

from .memory import gradients


def relu_gradient(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``dy`` where ReLU's output ``y`` is positive (or NaN), else 0. Not a product: 0 times Inf would be NaN."""
    closed = np.less_equal(y, 0, out=gradients.like(y, bool))
    dx = gradients.like(y)
    np.copyto(dx, dy)
    np.copyto(dx, 0, where=closed)
    return dx
