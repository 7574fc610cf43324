"""Where the second walk of ``planes`` reads: from the arrays, or from copies of some channels that lie close together.

Rows of a channel are ``channels * inner`` apart. Where that is a multiple of a large power of two, as with images of
32 x 32, they all are in a few sets of the cache, and drive each other out of it although it has room. The first walk
then copies what it reads: (64, 128, 32, 32) took 2.05 times as long as a copy in forward and 2.2 times in backward,
now 1.5 and 1.55. Tried and dropped: copying neighbouring short rows together, in a walk of its own before the sums, a
fifth slower; copying where rows fill the sets just so, no gain in forward, a tenth slower in backward.
"""

import math
from typing import NamedTuple

import numpy as np

from ...jit import device
from .memory import pointer, pointer_to
from .planes_cut import run_at
from .policy import CACHE_SHARE, COPY_SHARE


class Source(NamedTuple):
    """What the second walk reads."""

    x: object
    """Pointer to the input."""
    dy: object
    """Pointer to the gradient; to the input where there is none."""
    shape: tuple[int, int, int]
    first: int
    """The first of the channels that are here."""
    copied: bool
    """Whether the first walk puts them here."""
    reach: int
    """Offset up to which the second walk prefetches."""


@device
def reach_of_copies(x, channelwise, group, kept, machine):
    """Offset up to which the next group of channels can be prefetched where channels are copied; -1 where they are not.

    They are if the rows of a group, in ``kept`` arrays, are more than the sets of the cache hold that they belong in.
    """
    outer, channels, inner = x.shape
    size, ways, _ = machine
    row = group * inner * x.itemsize
    taken = kept * max(row, math.gcd(channels * inner * x.itemsize, size // ways))
    if not channelwise or outer * taken <= size or kept * outer * row > COPY_SHARE * size:
        return np.intp(-1)
    return np.intp(CACHE_SHARE * size / taken) * channels * inner


@device
def as_it_lies(x, dy, shape):
    """The arrays themselves as a source."""
    return Source(x, dy, shape, np.intp(0), False, shape[0] * shape[1] * shape[2])


@device
def source_of(x, dy, shape, channels, copies, reach):
    """The source of some channels: ``copies``, unless they are empty."""
    if copies.size == 0:
        return as_it_lies(x, dy, shape)
    first = pointer(copies)
    there = shape[0], channels[1] - channels[0], shape[2]
    return Source(first, pointer_to(first, copies.shape[1]), there, channels[0], True, reach)


@device
def moved(source, shape, channel, run):
    """How much further a run is in its source than in the arrays, and by how much that grows from row to row."""
    there = run_at(source.shape, channel - source.first, run)[0]
    return there - run_at(shape, channel, run)[0], (source.shape[1] - shape[1]) * shape[2]


@device
def prefetched(source, ahead, offset):
    """How far ahead to prefetch in the second walk; 0 where not."""
    return ahead if offset < source.reach else np.intp(0)
