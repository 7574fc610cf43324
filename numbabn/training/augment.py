"""Changes at random that leave an image's class as it is, so that training sees more than the images there are."""

from dataclasses import asdict, dataclass

import numpy as np

from ..nn.checks import whole


@dataclass(frozen=True)
class Augment:
    """Shift each image of a batch by up to ``pad`` pixels and mirror half of them, at random.

    The image is framed with zeros (black, in images of bytes) of width ``pad``, and a part of its former size is cut
    out anywhere. Each image has a shift of its own, the same for all its channels.

    Parameters
    ----------
    pad : int, default 0
        Pixels.
    flip : bool, default False
        Whether to swap left and right of an image, with probability 0.5.

    Examples
    --------
    >>> images = np.arange(1, 10, dtype=np.uint8).reshape(1, 1, 3, 3)
    >>> Augment(pad=1, flip=True)(images, np.random.default_rng(3))[0, 0]
    array([[5, 4, 0],
           [8, 7, 0],
           [0, 0, 0]], dtype=uint8)
    """

    pad: int = 0
    flip: bool = False

    def __post_init__(self):
        whole("pad", self.pad, 0)
        if not isinstance(self.flip, (bool, np.bool_)):
            raise TypeError(f"flip is {self.flip!r}; expected True or False")

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The images, of shape ``(N, C, H, W)``, changed; themselves if there is nothing to change."""
        if self.pad:
            images = _crop(images, self.pad, rng)
        if self.flip:
            mirrored = rng.random(len(images)) < 0.5
            images = np.where(mirrored[:, None, None, None], images[..., ::-1], images)
        return images

    def settings(self) -> dict:
        """What checkpoints keep."""
        return asdict(self)


def _crop(images, pad, rng):
    count, channels, height, width = images.shape
    framed = np.zeros((count, channels, height + 2 * pad, width + 2 * pad), images.dtype)
    framed[:, :, pad : pad + height, pad : pad + width] = images
    parts = np.lib.stride_tricks.sliding_window_view(framed, (height, width), axis=(2, 3))
    top, left = rng.integers(0, 2 * pad + 1, (2, count))
    return parts[np.arange(count), :, top, left]
