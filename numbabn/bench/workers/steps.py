"""Training steps that every worker is given: the same network, images and labels from the same seed."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

CLASSES = 10
LR = 0.01
MOMENTUM = 0.9


@dataclass(frozen=True)
class Step:
    """One step of SGD with momentum: forward, cross-entropy, backward, update, on a batch of float32 images."""

    network: str
    """``"small-cnn"`` or ``"resnet20"``."""
    shape: tuple[int, ...]
    """Of the batch, (N, C, H, W)."""
    weights: str
    """File of the initial parameters, which numbabn writes and the peers read, in the order of the layers."""

    def batch(self):
        """Images and labels."""
        rng = np.random.default_rng(self.shape)
        images = rng.standard_normal(self.shape, dtype=np.float32)
        return images, rng.integers(0, CLASSES, self.shape[0])


def peak_reset() -> None:
    """Begin to measure the most memory that this process has at a time, where the system lets one (Linux)."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak() -> int:
    """The most bytes since then, code and libraries among them; 0 where the system does not tell."""
    try:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except OSError:
        return 0
