"""Timing of one callable."""

import gc
from time import perf_counter

WARMING = 0.1
"""Share of the time that is spent on calls before those that count: they wake threads and fetch data into caches."""


def repeat(function, seconds: float | None = None, calls: int | None = None) -> list[float]:
    """Times of single calls in seconds: of ``calls`` of them, or of as many as fit into ``seconds``, at least one.

    Examples
    --------
    >>> len(repeat(lambda: None, calls=3))
    3
    """
    enough = perf_counter() + WARMING * (seconds or 0.0)
    function()
    while perf_counter() < enough:
        function()
    collecting = gc.isenabled()
    gc.disable()
    try:
        times = []
        last = perf_counter()
        end = last + (seconds or 0.0)
        while len(times) < calls if calls else not times or last < end:
            started = perf_counter()
            function()
            last = perf_counter()
            times.append(last - started)
        return times
    finally:
        if collecting:
            gc.enable()
