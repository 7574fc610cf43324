"""How ``planes`` cuts its work: runs and parts of channels, by shape alone; tasks, groups and prefetches, which no sum
depends on.

A channel is ``outer`` rows of ``inner`` elements, ``channels * inner`` apart. It is read in *runs* of about 4096
elements, which are summed in vectors of their own dtype; 16 runs make a *part*, added up in float64, the piece that
one thread takes where channels are shared between threads, as its *task*. Neighbouring channels of short rows are
written as a *group*.
"""

import math

import numpy as np

from ...jit import ceil_div, device, share, shared
from ..flags import STREAMS
from .policy import AHEAD, CACHE_SHARE, PLANES_GROUP, PLANES_LINE, PLANES_PART, PLANES_RUN


@shared
def run_count(shape):
    """Number of runs in a channel: several rows each, or pieces of a row."""
    outer, _, inner = shape
    if inner > PLANES_RUN:
        return outer * ceil_div(inner, PLANES_RUN)
    return ceil_div(outer, PLANES_RUN // inner)


@shared
def part_count(shape):
    """Number of parts in a channel."""
    return ceil_div(run_count(shape), PLANES_PART)


@device
def runs_of(shape, part):
    """First run of a part, and the one behind its last."""
    return part * PLANES_PART, min((part + 1) * PLANES_PART, run_count(shape))


@device
def run_at(shape, channel, run):
    """Offset of a run's first element, its number of rows, their length."""
    outer, channels, inner = shape
    if inner > PLANES_RUN:
        pieces = ceil_div(inner, PLANES_RUN)
        start = run % pieces * PLANES_RUN
        return (run // pieces * channels + channel) * inner + start, np.intp(1), min(PLANES_RUN, inner - start)
    rows = PLANES_RUN // inner
    first = run * rows
    return (first * channels + channel) * inner, min(rows, outer - first), inner


@device
def is_channelwise(shape, threads):
    """Whether threads take whole channels: if a channel is one part, or there are two channels or more for each thread.

    With fewer, half of the threads may idle in the last round.
    """
    return part_count(shape) == 1 or shape[1] >= 2 * threads


@device
def tasks_of(shape, channelwise, thread, threads):
    """A thread's share of the channels, or of all their parts."""
    return share(shape[1] if channelwise else shape[1] * part_count(shape), thread, threads)


@device
def task_at(shape, tasks, k, backwards):
    """The k-th task's channel and part, counted from the front or the back."""
    task = tasks[1] - 1 - k if backwards else tasks[0] + k
    return task // part_count(shape), task % part_count(shape)


@device
def ahead_of_sums(shape):
    """How far ahead the first walk prefetches: the channel's next row, or a page within a long one."""
    return shape[1] * shape[2] if shape[2] < PLANES_RUN else np.intp(AHEAD)


@device
def group_size(shape, flags):
    """Number of neighbouring channels that are written together: of short rows as many as give long, whole lines."""
    inner = shape[2]
    if not flags & STREAMS or inner >= PLANES_GROUP:
        return np.intp(1)
    whole = PLANES_LINE // math.gcd(inner, PLANES_LINE)
    return ceil_div(PLANES_GROUP, inner * whole) * whole


@device
def next_fits(x, group, kept, machine):
    """Whether two groups of channels fit the cache, in all arrays ``kept`` from the first walk."""
    outer, _, inner = x.shape
    return 2 * kept * outer * group * inner * x.itemsize <= CACHE_SHARE * machine[0]


@device
def ahead_of_output(x, channelwise, group, kept, machine):
    """How far ahead the second walk prefetches, which goes from the last row to the first.

    To the next group of channels where it fits; else to the row before this one, or a page within a long one.
    """
    _, channels, inner = x.shape
    if channelwise and next_fits(x, group, kept, machine):
        return group * inner
    return -channels * inner if inner < PLANES_RUN else np.intp(AHEAD)
