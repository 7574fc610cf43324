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
"""A dtype of 4 bytes that all libraries have; kernels see int32."""

COUNTERS = 1 << 14
"""Counters that a stream keeps. A launch of more teams gets others."""

STREAMS = 64
"""Streams of a device that keep counters, at most."""

_KEPT = {}
"""Memory, by device and the stream's number, which no later stream gets."""

_LOCK = threading.Lock()


def counters_for(space, teams):
    """Memory with a counter for each of some teams of the next launch on a stream."""
    number = toolkit.lasting_number(space.stream) if teams <= COUNTERS else None
    kept = None if number is None else _kept(space, (space.device, number))
    return kept or _zeroed(space.empty((teams,), COUNTER), space)


def _kept(space, key):
    """What a stream has, from now on if not yet; None where others have all that there are."""
    if key not in _KEPT:
        with _LOCK:
            if key not in _KEPT and sum(device == space.device for device, _ in _KEPT) < STREAMS:
                owner = toolkit.lasting_array((COUNTERS,), DTYPES[COUNTER])
                memory = new_memory(owner, toolkit.interface(owner)["data"][0], (COUNTERS,), COUNTER)
                _KEPT[key] = _zeroed(memory, space)
    return _KEPT.get(key)


def _zeroed(counters, space):
    toolkit.zero(counters, space.stream)
    return counters
