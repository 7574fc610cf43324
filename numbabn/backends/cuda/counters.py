"""The counters at which the blocks of teams wait for each other: 0 before a launch, and left at 0 by it.

To zero them before each launch would be another one. So a stream keeps its own, which its launches alone use, one
after the other. Their memory is asked of Numba, not of the caller's library, whose pool may be a recording's, or
asked to free all that it has. Where launches are recorded (CUDA graphs), to be played on any stream, counters are new,
and that they are zeroed is recorded with them. (They are then the caller's library's, as all memory for a call is:
PyTorch's is kept as long as its graph.)
"""

import threading

from . import toolkit
from .memory import DTYPES, new_memory

COUNTER = "float32"
"""A counter's dtype as libraries know it, of 4 bytes."""

COUNTERS = 1 << 14
"""That a stream keeps: of so many teams at most."""

STREAMS = 64
"""Of a device that keep counters, at most."""

_KEPT = {}
"""Memory, by device and the stream's number, which no later stream gets."""

_LOCK = threading.Lock()


def counters_for(space, teams):
    """Memory with a counter for each of some teams of the next launch on a stream."""
    number = toolkit.stream_number(space.stream)
    kept = None
    if number is not None and teams <= COUNTERS:
        kept = _KEPT.get((space.device, number)) or _keep(space, number)
    return kept or _zeroed(space.empty((teams,), COUNTER), space)


def _keep(space, number):
    """What a stream has from now on; None where others have all that there are."""
    with _LOCK:
        if (space.device, number) not in _KEPT and sum(device == space.device for device, _ in _KEPT) < STREAMS:
            owner = toolkit.lasting_array((COUNTERS,), DTYPES[COUNTER])
            memory = new_memory(owner, toolkit.interface(owner)["data"][0], (COUNTERS,), COUNTER)
            _KEPT[space.device, number] = _zeroed(memory, space)
        return _KEPT.get((space.device, number))


def _zeroed(counters, space):
    toolkit.zero(counters, space.stream)
    return counters
