"""How ``planes`` cuts its work: runs and parts of channels, by shape alone; tasks, groups and prefetches, which no sum
depends on.

A channel is ``outer`` rows of ``inner`` elements, ``channels * inner`` apart. It is read in *runs* of about 4096
elements, which are summed in vectors of their own dtype; 16 runs make a *part*, added up in float64, the piece that
one thread takes where channels are shared between threads, as its *task*. Neighbouring channels of short rows are
taken as a *group*.
"""

import math
from typing import NamedTuple

import numpy as np

from ...jit import ceil_div, device, share, shared
from ..flags import STREAMS
from .policy import AHEAD, CACHE_SHARE, PLANES_BRIEF, PLANES_GROUP, PLANES_LINE, PLANES_PART, PLANES_RUN


class Cut(NamedTuple):
    """How each channel is cut: numbers that take divisions, for which a short channel has no time."""

    pieces: int
    """Runs that a row is cut into; 1 where runs are whole rows."""
    rows: int
    """Rows of a run."""
    runs: int
    parts: int


@shared
def cut_of(shape):
    """How the channels of a shape are cut."""
    outer, _, inner = shape
    pieces = ceil_div(inner, PLANES_RUN)
    rows = max(1, PLANES_RUN // inner)
    runs = outer * pieces if pieces > 1 else ceil_div(outer, rows)
    return Cut(pieces, rows, runs, ceil_div(runs, PLANES_PART))


@shared
def part_count(shape):
    """Number of parts in a channel."""
    return cut_of(shape).parts


@device
def runs_of(cut, part):
    """First run of a part, and the one behind its last."""
    return part * PLANES_PART, min((part + 1) * PLANES_PART, cut.runs)


@device
def run_at(shape, cut, channel, run):
    """Offset of a run's first element, its number of rows, their length."""
    outer, channels, inner = shape
    if cut.pieces > 1:
        start = run % cut.pieces * PLANES_RUN
        return (run // cut.pieces * channels + channel) * inner + start, np.intp(1), min(PLANES_RUN, inner - start)
    first = run * cut.rows
    return (first * channels + channel) * inner, min(cut.rows, outer - first), inner


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
    """Number of neighbouring channels that are taken together: of short rows as many as give long, whole lines."""
    outer, _, inner = shape
    if inner >= PLANES_GROUP or not (flags & STREAMS or outer * inner <= PLANES_BRIEF):
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
