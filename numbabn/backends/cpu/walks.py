"""How threads go over the arrays: the phases of a kernel, and what a walk is told."""

from typing import NamedTuple

from ...jit import device
from ..flags import STREAMS, STREAMS_RESIDUAL
from .memory import pointer, unaligned

WHOLE, SUMS, OUTPUT, IN_ORDER, DONE = range(5)
"""Phases, what all threads do at a time. WHOLE: both walks, over channels (or tiles) of the thread's own. Else all
threads share the tasks of one walk, SUMS, then those of the other, OUTPUT. Inference has one walk: in ``planes``
IN_ORDER, over memory as it lies, in ``rows`` WHOLE or OUTPUT."""


class Walk(NamedTuple):
    """How all of an array is walked over."""

    shape: tuple[int, int, int]
    flags: int
    ahead: int
    """How many elements ahead to prefetch."""


@device
def with_streams(flags, y, residual, machine, threads):
    """The flags with those for streams, if the caches hold too little of the outputs for whoever reads them next.

    Rows of dresidual are streamed with those of dx where both have their line boundaries in the same places.
    """
    _, _, stream_from = machine
    if y.size * y.itemsize < stream_from * threads:
        return flags
    aligned_alike = unaligned(pointer(y), 0) == unaligned(pointer(residual), 0)
    return flags | STREAMS | (STREAMS_RESIDUAL if aligned_alike else 0)
