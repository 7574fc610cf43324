"""Data sets: arrays of images and labels, cut into a part to train on and a part to test on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..extras import need

TEST_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of one classification task.

    Parameters
    ----------
    train_images, test_images : numpy.ndarray
        Shape ``(N, C, H, W)`` or whatever the model takes, floating; the two differ in N only. With ``transform``,
        whatever that takes: bytes, say, a quarter of the memory.
    train_labels, test_labels : numpy.ndarray
        Shape ``(N,)``, integers from 0.
    name : str
        For messages and titles.
    classes : int, optional
        How many there are; by default the highest label says.
    transform : callable, optional
        Called with a batch of images, returns what the model takes; see :class:`Normalize`. Checkpoints keep what its
        ``settings()`` tells, where it has that method.
    augment : callable, optional
        Called with a batch of training images, before ``transform``, and a :class:`numpy.random.Generator`; returns
        changed copies. See :class:`Augment`. Checkpoints keep its settings too.
    data_dir : str, optional
        Folder that the images were read from. Checkpoints tell it, but a run may be resumed with it elsewhere.

    ``transform`` and ``augment`` run in a thread beside the training step, so Numba's threads are not for them.

    Raises
    ------
    ValueError
        If a part is empty, has not one label per image or one outside the classes, or the two parts' images differ in
        shape or dtype.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    name: str = "data"
    classes: int | None = None
    transform: Callable | None = None
    augment: Callable | None = None
    data_dir: str | None = None

    def __post_init__(self):
        for part in ("train", "test"):
            images, labels = (np.asarray(getattr(self, f"{part}_{what}")) for what in ("images", "labels"))
            object.__setattr__(self, f"{part}_images", images)
            object.__setattr__(self, f"{part}_labels", labels)
            if len(images) == 0:
                raise ValueError(f"{part}_images is empty; expected at least one image")
            if labels.shape != (len(images),):
                raise ValueError(f"{part}_labels has shape {labels.shape}; expected ({len(images)},), one per image")
        train, test = self.train_images, self.test_images
        if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
            raise ValueError(
                f"test_images are {test.dtype} of shape {test.shape[1:]}; "
                f"expected train_images' {train.dtype} of shape {train.shape[1:]}"
            )
        labels = np.concatenate([self.train_labels, self.test_labels])
        if self.classes is None:
            object.__setattr__(self, "classes", int(labels.max()) + 1)
        if labels.min() < 0 or labels.max() >= self.classes:
            raise ValueError(f"labels go from {labels.min()} to {labels.max()}; expected 0 to {self.classes - 1}")

    def __repr__(self) -> str:
        train, test = self.train_images, self.test_images
        images = f"{len(train)} + {len(test)} images {train.shape[1:]} {train.dtype}"
        return f"Dataset({self.name!r}, {images}, {self.classes} classes)"

    def train_batch(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Some of the training images, augmented and transformed, and their labels."""
        images = self.train_images[indices]
        if self.augment is not None:
            images = self.augment(images, rng)
        return images if self.transform is None else self.transform(images), self.train_labels[indices]


def digits(seed: int = 0, dtype=np.float32) -> Dataset:
    """Handwritten digits: the 1,797 real images of 8 x 8 that scikit-learn carries, so nothing is downloaded.

    E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.

    Parameters
    ----------
    seed : int, default 0
        Chooses the fifth of each class that is kept for testing.
    dtype : numpy dtype, default float32
        Of the images, whose values are scaled from 0..16 to 0..1.

    Returns
    -------
    Dataset
        1,438 training and 359 test images of shape ``(1, 8, 8)``, ten classes.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.

    Examples
    --------
    >>> data = digits()
    >>> data.train_images.shape, data.test_images.shape
    ((1438, 1, 8, 8), (359, 1, 8, 8))
    """
    source = need("sklearn.datasets", "train").load_digits()
    images = (source.images[:, None] / 16.0).astype(dtype)
    labels = source.target.astype(np.int64)
    test = stratified(labels, TEST_SHARE, seed)
    return Dataset(images[~test], labels[~test], images[test], labels[test], name="digits")


def stratified(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Mask that picks a share of each class at random.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> np.bincount(labels[stratified(labels, 0.5, seed=0)])
    array([2, 2])
    """
    rng = np.random.default_rng(seed)
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        mask[members[: round(share * len(members))]] = True
    return mask
