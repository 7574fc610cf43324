"""Statistics of ``planes``: from sums over a channel, about a first guess of its mean, or a second one."""

from typing import NamedTuple

import numpy as np

from ...jit import device, noinline
from ..host import MEAN
from .constants import M
from .lanes import all_true
from .memory import cast, columns, empty, load, pointer_to, vector_length
from .moments import finite_shift, settle, settle_all
from .planes_cut import part_count
from .planes_sums import channel_sums
from .policy import SAMPLES
from .simd import splat, total


class Sums(NamedTuple):
    """What threads that share channels hand on from the first walk."""

    shifts: np.ndarray
    """Guesses of the channels' means."""
    unsettled: np.ndarray
    """Which channels need sums about their shift."""
    parts: np.ndarray
    """Two sums for each part of each channel."""


@device
def first_shift(x, shape, channel):
    """A first guess of a channel's mean, from a vector in the middle of some rows spread over it."""
    outer, channels, inner = shape
    origin = x[channel * inner]
    centre = splat(origin)
    s = splat(cast(x, 0.0))
    samples = min(outer, SAMPLES)
    lanes = min(inner, vector_length(x))
    for k in range(samples):
        i = ((k * outer // samples) * channels + channel) * inner + (inner - lanes) // 2
        s += load(x, i, lanes, centre) - centre
    return finite_shift(x, np.float64(origin), total(s) / (samples * lanes))


@device
def channel_statistics(x, shape, channel, shift, table, eps, source):
    """A channel's statistics, by one thread, from a first guess of its mean."""
    settled = False
    while not settled:
        s, q = channel_sums(x, shape, channel, shift, source)
        settled = settle(x, shape, channel, shift, s, q, table, eps)
        shift = cast(x, table[MEAN, channel])


@device
def group_statistics(x, shape, channels, table, eps, source, constants, sums):
    """The same of neighbouring channels, settled together if that is easy for all of them.

    Row M of ``constants`` has their shifts until the means take that place; columns of ``sums`` are the group's alone.
    """
    noinline()
    start, stop = channels
    for channel in range(start, stop):
        shift = first_shift(x, shape, channel)
        constants[M, channel] = shift
        sums[0, channel - start], sums[1, channel - start] = channel_sums(x, shape, channel, shift, source)
    shifts = pointer_to(constants, start)
    if settle_all(pointer_to(x, start * shape[2]), shape, stop - start, shifts, sums, columns(table, start), eps):
        return
    for channel in range(start, stop):
        s, q = sums[0, channel - start], sums[1, channel - start]
        if not settle(x, shape, channel, constants[M, channel], s, q, table, eps):
            channel_statistics(x, shape, channel, cast(x, table[MEAN, channel]), table, eps, source)


@device
def shared_sums(x, shape, channels):
    """Memory for the sums of that many channels, first guesses of whose means are in it."""
    shifts = empty(x, 1, channels).ravel()
    for channel in range(channels):
        shifts[channel] = first_shift(x, shape, channel)
    return Sums(shifts, all_true(channels), np.empty((channels, part_count(shape), 2)))


@device
def settle_channels(x, shape, sums, table, eps):
    """Statistics of every channel from its parts' sums, added in order; whether any needs new sums."""
    noinline()
    shifts, unsettled, parts = sums
    for channel in range(shape[1]):
        if unsettled[channel]:
            s, q = add_parts(parts, channel)
            unsettled[channel] = not settle(x, shape, channel, shifts[channel], s, q, table, eps)
            shifts[channel] = cast(x, table[MEAN, channel])
    return unsettled.any()


@device
def add_parts(parts, channel):
    """The two sums of a channel, from those of its parts."""
    s, q = 0.0, 0.0
    for part in range(parts.shape[1]):
        s += parts[channel, part, 0]
        q += parts[channel, part, 1]
    return s, q
