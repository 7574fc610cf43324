"""The counters at which the blocks of teams wait for each other: 0 before a launch, and left at 0 by it.

To zero them before each launch would be another one. So a stream keeps its own, which its launches alone use, one
after the other. Where launches are recorded instead (CUDA graphs), to be played on any stream, counters are new, and
that they are zeroed is recorded with them.
"""

import threading

from . import toolkit

COUNTERS = 1 << 14
"""That a stream keeps: of so many teams at most."""

STREAMS = 64
"""That keep counters, at most."""

_KEPT = {}
"""Memory, by device and the stream's number, which no later stream gets."""

_LOCK = threading.Lock()


def counters_for(space, teams):
    """Memory with a counter for each of some teams of the next launch on a stream."""
    if teams > COUNTERS or toolkit.records(space.stream):
        return _zeroed(space, teams)
    key = space.device, toolkit.stream_number(space.stream)
    kept = _KEPT.get(key)
    return kept or _keep(space, key, teams)


def _keep(space, key, teams):
    """The same for a stream that has none yet."""
    with _LOCK:
        if key not in _KEPT:
            if len(_KEPT) >= STREAMS:
                return _zeroed(space, teams)
            _KEPT[key] = _zeroed(space, COUNTERS)
        return _KEPT[key]


def _zeroed(space, count):
    counters = space.empty((count,), "float32")  # of 4 bytes, as libraries know it
    toolkit.zero(counters, space.stream)
    return counters
