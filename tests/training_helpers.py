"""A small training task for the tests of ``numbabn.training``: every kind of state there is, in milliseconds."""

import numpy as np

from numbabn import nn
from numbabn.training import Dataset

BATCHES = 4
"""Steps per epoch with ``BATCH_SIZE``."""
BATCH_SIZE = 16


def small_data(dtype=np.float32):
    """Four classes, 60 training and 20 test images of shape (1, 4, 4): noise around a pattern for each class."""
    rng = np.random.default_rng(5)
    labels = np.arange(80) % 4
    images = rng.normal(size=(80, 1, 4, 4)) + 2.0 * rng.normal(size=(4, 1, 4, 4))[labels]
    images = images.astype(dtype)
    return Dataset(images[:60], labels[:60], images[60:], labels[60:], name="small")


def small_model(width=8, dtype=np.float32):
    """Weights, running statistics and a dropout counter."""
    rng = np.random.default_rng(1)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(16, width, rng=rng, dtype=dtype),
        nn.BatchNorm(width, dtype=dtype),
        nn.ReLU(),
        nn.Dropout(0.2, seed=2),
        nn.Linear(width, 4, rng=rng, dtype=dtype),
    )


def sgd(model):
    return nn.SGD(model, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)


def adamw(model):
    return nn.AdamW(model, 0.01)


def assert_same_state(a, b):
    """Bit for bit."""
    a, b = a.state_dict(), b.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def without_times(history):
    """A history's numbers that do not depend on the clock."""
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "images_per_second")}
        for row in history.rows()
    ]
