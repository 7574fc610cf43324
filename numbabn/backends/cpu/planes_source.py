"""Where the second walk of ``planes`` reads: from the arrays, or from copies of some channels that lie close together.

Rows of a channel are ``channels * inner`` apart. Where that is a multiple of a large power of two, as with images of
32 x 32, they all are in a few sets of the cache, and drive each other out of it although it has room. The first walk
then copies what it reads: (64, 128, 32, 32) takes 1.5 times as long as a plain copy in forward and 1.55 in backward,
without copies 2.05 and 2.2. Tried and dropped: copying neighbouring short rows together, in a walk of its own before
the sums, a fifth slower; copying where rows fill the sets just so, no gain in forward, a tenth slower in backward.
"""

import math
from typing import NamedTuple

import numpy as np

from ...jit import device
from .memory import empty, pointer, pointer_to
from .planes_cut import Cut, cut_of, next_fits, run_at
from .policy import CACHE_SHARE, COPY_SHARE


class Source(NamedTuple):
    """What the second walk reads."""

    x: object
    """Pointer to the input."""
    dy: object
    """Pointer to the gradient; to the input where there is none."""
    shape: tuple[int, int, int]
    """Shape of what is here: the arrays', or the copies'."""
    cut: Cut
    """How its channels are cut, the same in both."""
    first: int
    """The first of the channels that are here."""
    is_copy: bool
    """Whether these are copies, which the first walk makes."""
    reach: int
    """Offset up to which the second walk prefetches."""


@device
def spacing(x, group, kept, machine):
    """Bytes of the cache that a row of a group takes, in ``kept`` arrays, by where it may be put there.

    Rows whose distance shares a factor with the bytes of a way fall into few sets: each takes the room of that factor.
    """
    _, channels, inner = x.shape
    size, ways, _ = machine
    return kept * max(group * inner * x.itemsize, math.gcd(channels * inner * x.itemsize, size // ways))


@device
def is_crowded(x, group, kept, machine):
    """Whether groups of channels are to be copied: rows have no room where they belong, copies have."""
    outer, _, inner = x.shape
    fits = kept * outer * group * inner * x.itemsize <= COPY_SHARE * machine[0]
    return fits and outer * spacing(x, group, kept, machine) > machine[0]


@device
def copies_for(x, shape, group, kept, crowded):
    """Memory for the copies of a group of channels, in ``kept`` arrays; none where they are not copied."""
    return empty(x, kept, group * shape[0] * shape[2] if crowded else np.intp(0))


@device
def reach_of_prefetch(x, group, kept, machine):
    """Offset up to which rows of the next group are prefetched where groups are copied: as many rows as have room."""
    _, channels, inner = x.shape
    rows = np.intp(CACHE_SHARE * machine[0] / spacing(x, group, kept, machine))
    return rows * channels * inner if next_fits(x, group, kept, machine) else np.intp(0)


@device
def as_it_lies(x, dy, shape):
    """The arrays themselves as a source."""
    return Source(x, dy, shape, cut_of(shape), np.intp(0), False, shape[0] * shape[1] * shape[2])


@device
def source_of(lying, channels, copies, reach):
    """The source of some channels: ``copies``, or what is ``lying`` there (``as_it_lies``) if there are none."""
    if copies.size == 0:
        return lying
    first = pointer(copies)  # the caller's loop names them in every round, which keeps them alive
    there = lying.shape[0], channels[1] - channels[0], lying.shape[2]
    return Source(first, pointer_to(first, copies.shape[1]), there, lying.cut, channels[0], True, reach)


@device
def moved(source, shape, channel, run):
    """How much further a run is in its source than in the arrays, and by how much that grows from row to row."""
    there = run_at(source.shape, source.cut, channel - source.first, run)[0]
    return there - run_at(shape, source.cut, channel, run)[0], (source.shape[1] - shape[1]) * shape[2]


@device
def ahead_from(source, ahead, offset):
    """How far ahead of an offset the second walk prefetches; 0 where not."""
    return ahead if offset < source.reach else np.intp(0)
