"""Timing for benchmarks that asv cannot time itself."""

from statistics import median
from time import perf_counter


def taking_turns(*calls, seconds=0.5):
    """Median time of each call.

    Parameters
    ----------
    calls : callables without arguments, warmed up
        They take turns, so that what else runs on the machine slows all of them alike.
    seconds : float
        For all of them together; at least five turns are taken.

    Returns
    -------
    list of float
        Seconds.
    """
    times = [[] for _ in calls]
    end = perf_counter() + seconds
    while len(times[0]) < 5 or perf_counter() < end:
        for call, record in zip(calls, times, strict=True):
            started = perf_counter()
            call()
            record.append(perf_counter() - started)
    return [median(record) for record in times]
