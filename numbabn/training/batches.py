"""Which images make up which batch."""

import numpy as np


def split(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an order into batches of at most ``batch_size``, as even as can be.

    Even cuts use every image and leave no last batch so small that its statistics would be noise.

    Examples
    --------
    >>> split(np.arange(7), 3)
    [array([0, 1, 2]), array([3, 4]), array([5, 6])]
    """
    return np.array_split(order, -(-len(order) // batch_size))


def shuffled(count: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Batches of one epoch: the order depends on seed and epoch alone, so a resumed run needs no generator's state."""
    return split(np.random.default_rng([seed, epoch]).permutation(count), batch_size)


def generator(seed: int, epoch: int, batch: int) -> np.random.Generator:
    """Chance for one batch alone, whatever was drawn for others; none of it is that of :func:`shuffled`.

    As a third number beside seed and epoch, batch 0 would be no different from its absence.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=(batch,)))
