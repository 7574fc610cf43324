"""Images made up for a classification task of any size."""

import math

import numpy as np

from ..nn.checks import number, whole
from . import batches
from .data import Dataset
from .normalize import Normalize

CHUNK = 1024
"""Images made at a time."""
SMOOTHNESS = 2.0
"""Standard deviation of the patterns' blur, in pixels."""
GRAY, CONTRAST = 128, 24
"""Byte for 0, and steps for 1."""


def synthetic(
    classes: int = 10,
    channels: int = 3,
    height: int = 32,
    width: int = 32,
    *,
    train: int = 4000,
    test: int = 1000,
    noise: float = 2.0,
    seed: int = 0,
) -> Dataset:
    """Images of any size and number that need no files: each class is a pattern, moved about and covered with noise.

    The pattern of a class is white noise of shape ``(channels, height, width)``, blurred (Gaussian, 2 pixels, around
    the edges) and scaled to mean 0 and variance 1 in each channel. An image is its class's pattern, rolled by a random
    number of rows and of columns, plus white noise, turned into bytes: 24 steps for 1, from 128 for 0. Classes have
    equally many images, or one more. The mean image is the same for all classes, so a linear classifier learns nothing;
    a convolutional network has to find the pattern under the noise, wherever it is.

    Parameters
    ----------
    classes, channels, height, width : int
    train, test : int
        Numbers of images.
    noise : float, default 2.0
        Standard deviation of the white noise, where the pattern has 1.
    seed : int, default 0
        Decides everything.

    Returns
    -------
    Dataset
        Images are uint8, with a transform that normalises them.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Examples
    --------
    >>> data = synthetic(classes=4, channels=1, height=16, width=12, train=100, test=20)
    >>> data.train_images.shape, data.train_images.dtype, np.bincount(data.test_labels)
    ((100, 1, 16, 12), dtype('uint8'), array([5, 5, 5, 5]))
    """
    from scipy.ndimage import gaussian_filter  # takes as long to import as all the rest of the command line

    shape = (whole("channels", channels, 1), whole("height", height, 2), whole("width", width, 2))
    classes, noise = whole("classes", classes, 2), number("noise", noise, 0, math.inf)
    rng = np.random.default_rng([*b"synthetic", whole("seed", seed, 0)])  # weights with this seed draw other numbers
    patterns = gaussian_filter(rng.standard_normal((classes, *shape)), SMOOTHNESS, mode="wrap", axes=(2, 3))
    patterns -= patterns.mean(axis=(2, 3), keepdims=True)
    patterns /= patterns.std(axis=(2, 3), keepdims=True)
    train_images, train_labels = _images(patterns, whole("train", train, 1), noise, rng)
    test_images, test_labels = _images(patterns, whole("test", test, 1), noise, rng)
    return Dataset(
        train_images,
        train_labels,
        test_images,
        test_labels,
        name="synthetic",
        classes=classes,
        transform=Normalize.of(train_images),
    )


def _images(patterns, count, noise, rng):
    classes, channels, height, width = patterns.shape
    labels = rng.permutation(np.arange(count) % classes)
    images = np.empty((count, channels, height, width), np.uint8)
    for indices in batches.split(np.arange(count), CHUNK):
        rows = (rng.integers(height, size=(len(indices), 1)) + np.arange(height)) % height
        columns = (rng.integers(width, size=(len(indices), 1)) + np.arange(width)) % width
        part = patterns[
            labels[indices, None, None, None],
            np.arange(channels)[:, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]
        part += noise * rng.standard_normal(part.shape)
        images[indices] = np.clip(np.rint(GRAY + CONTRAST * part), 0, 255)
    return images, labels
