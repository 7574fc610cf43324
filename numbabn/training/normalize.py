"""Images of bytes become floats: mean 0 and variance 1 for each colour."""

from dataclasses import dataclass

import numpy as np

from . import batches

CHUNK = 1024
"""Images counted at a time: counting takes eight bytes for each of theirs."""


@dataclass(frozen=True)
class Normalize:
    """Turns uint8 images into float32, ``(image - mean) / std`` for each channel.

    Parameters
    ----------
    mean, std : tuple of float
        One for each channel, in steps of the bytes.

    Examples
    --------
    >>> images = np.array([0, 2, 2, 4], np.uint8).reshape(4, 1, 1, 1)
    >>> normalize = Normalize.of(images)
    >>> normalize
    Normalize(mean=(2.0,), std=(1.4142135623730951,))
    >>> normalize(images).ravel()
    array([-1.4142135, 0. , 0. , 1.4142135], dtype=float32)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: np.ndarray) -> "Normalize":
        """With the mean and the standard deviation of each channel of some uint8 images, shape ``(N, C, H, W)``.

        They are sums of whole numbers, so they have the same bits everywhere. A channel with one value only has 1 for
        its standard deviation, and becomes 0.
        """
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"images are {images.dtype} of {images.ndim} axes; expected uint8 of 4, (N, C, H, W)")
        levels = np.arange(256)
        counts = np.zeros((images.shape[1], 256), np.int64)
        for indices in batches.split(np.arange(len(images)), CHUNK):
            part = images[indices[0] : indices[-1] + 1]
            counts += [np.bincount(part[:, channel].ravel(), minlength=256) for channel in range(images.shape[1])]
        total = counts.sum(axis=1)
        mean = counts @ levels / total
        std = np.sqrt(counts @ levels**2 / total - mean**2)
        return cls(tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The images as a new float32 array of the same shape."""
        mean, factor = (np.array(values, np.float32)[:, None, None] for values in (self.mean, 1 / np.array(self.std)))
        out = np.subtract(images, mean, dtype=np.float32)
        out *= factor
        return out

    def settings(self) -> dict:
        """What checkpoints keep: as good as a fingerprint of the training images."""
        return {"mean": list(self.mean), "std": list(self.std)}
