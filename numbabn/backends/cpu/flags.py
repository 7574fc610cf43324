"""What a kernel is asked to do, in numbers: Numba compiles it once for all of them."""

from typing import NamedTuple

ADDS, CLIPS, MEASURES, WRITES = 1, 2, 4, 8
"""Forward: add the residual; apply ReLU; fill in the statistics; write y."""

FROM_X, FROM_Y, FROZEN = 1, 2, 4
"""Backward: recompute from x, or read off y, where ReLU was open; statistics were constants."""

STREAMS, STREAMS_RESIDUAL = 16, 32
"""Both: write y or dx past the caches; dresidual, too."""

WHOLE, SUMS, OUTPUT, DONE = range(4)
"""Phases, what all threads do at a time. A *walk* is one pass over memory: the first takes sums, the second writes.
WHOLE: both walks over channels (or lanes) of the thread's own. Else all threads share the tasks of one walk, then of
the other."""


class Walk(NamedTuple):
    """How all of an array is walked over: its shape, the flags, and how many elements ahead to prefetch."""

    shape: tuple[int, int, int]
    flags: int
    ahead: int
