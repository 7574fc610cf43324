"""Which blocks take what of an array: the launch of each shape, by the numbers of ``policy``."""

from functools import lru_cache, partial
from math import gcd

from ...jit import ceil_div
from ..host import FEW
from . import planes, policy, rows
from .launch import Launch, Words
from .memory import DTYPES
from .policy import THREADS


@lru_cache(maxsize=1024)
def launch_for(shape, dtype, alignment, training, inputs, card):
    """How a call on canonical arrays of a shape is launched.

    Parameters
    ----------
    shape : tuple of int
        ``(outer, channels, inner)``.
    dtype : str
    alignment : int
        All the arrays' addresses are multiples of it; at most 16.
    training : bool
        The gradient in training on very few values per channel is little but what two almost equal terms differ by:
        these are computed in float64.
    inputs : int
        Arrays that are walked over twice: 1 forward, x, and 2 backward, dy too.
    card : toolkit.Card
    """
    outer, channels, inner = shape
    values, itemsize = outer * inner, DTYPES[dtype].itemsize
    real = "float64" if dtype == "float64" or (training and values <= FEW) else "float32"
    lanes = max(1, min(alignment, policy.REGISTER_BYTES * itemsize // DTYPES[real].itemsize) // itemsize)
    streams = inputs == 1 and not training and values * channels * itemsize > policy.AT_ONCE
    holds = values * channels > 0 and not streams
    make = partial(_rows, outer) if inner == 1 else partial(_planes, outer, inner)
    return make(channels, partial(Words, dtype, real=real), lanes, inputs if holds else 0, card)


def _planes(outer, inner, channels, words, lanes, inputs, card):
    """A launch of kernels of ``planes``; with ``inputs`` 0 in parts."""
    ragged = inner % lanes > 0 and inner >= policy.RAGGED_FROM * lanes
    words = words(lanes=lanes if ragged else gcd(lanes, inner), ragged=ragged)
    slots = ceil_div(inner + words.lanes - 1, words.lanes) if ragged else inner // words.lanes
    team, held = _team(outer * slots, 1, inputs * words.bytes, card.room - _numbers(words, 1), max(1, channels), card)
    count = team or _parts(outer * slots, channels, THREADS)
    sizes = outer, channels, inner, slots, count
    return Launch(planes, words, sizes, count, channels * count, held, channels, outer * inner)


def _rows(outer, channels, words, lanes, inputs, card):
    """A launch of kernels of ``rows``; with ``inputs`` 0 in parts."""
    known = words(lanes=gcd(lanes, channels) or 1)
    slots, period = channels // known.lanes, 1
    width, team, held = _tile(outer, slots, known, inputs, card)
    if team != 1 and channels % lanes > 0 and channels >= policy.RAGGED_FROM * lanes:
        period, known = lanes // known.lanes, words(lanes=lanes, ragged=True)
        slots = ceil_div(channels + lanes - 1, lanes)
        width, team, held = _widest(slots), 0, 0
    tiles = ceil_div(slots, width)
    count = team or period * _parts(ceil_div(outer, period), tiles * period, THREADS // width)
    sizes = outer, channels, slots, width, period, count
    return Launch(rows, known, sizes, count, tiles * count, held, channels, outer)


def _tile(outer, slots, words, inputs, card):
    """Slots side by side that a block of ``rows`` takes, and ``_team``'s answer for them.

    One block that holds its tile's rows alone is best, with as wide a tile as leaves blocks enough. Else it is a team's
    with the widest tile of which there is room for two teams at a time, or for one.
    """
    widest, least = _widest(slots), max(1, policy.TILE // words.bytes)
    widths = [widest >> k for k in range(widest.bit_length()) if k == 0 or widest >> k >= least]
    room, chosen = card.room - _numbers(words, words.lanes), (widest, 0, 0)
    for width in widths:
        tiles, each = ceil_div(slots, width), inputs * width * words.bytes
        team, held = _team(outer, THREADS // width, each, room, max(1, tiles), card)
        if team == 1 and (tiles >= policy.SPREAD or width == widths[-1]):
            return width, team, held
        narrow = width * words.bytes <= policy.TEAM_TILE and width * words.lanes <= THREADS
        if team > 1 and narrow and not 0 < chosen[1] <= card.multiprocessors // 2:
            chosen = width, team, held
    return chosen


def _widest(slots):
    """The most slots of a row that a block takes, a power of two."""
    return min(policy.WIDTH, 1 << (slots - 1).bit_length()) if slots else 1


def _team(size, unit, each, room, columns, card):
    """Blocks that hold ``size`` slots of a channel together, and the bytes that each holds; 0 and 0 if it is too much.

    A block's slots come by the ``unit``; ``each`` has so many bytes. Where a block alone cannot hold them, two on a
    multiprocessor, one of which waits while the other reads or writes, are better than one; and as many as there are
    multiprocessors are launched, if the ``columns`` that teams share are few.
    """
    held = partial(_held, size, unit, each)
    if 0 < held(1) <= min(room, policy.ON_CHIP):
        return 1, held(1)
    most = min(card.multiprocessors, policy.TEAM)
    for limit in (policy.ON_CHIP // 2, policy.ON_CHIP):
        units = min(limit, room) // (each * unit) if each else 0
        team = ceil_div(ceil_div(size, unit), units) if units > 0 else 0
        if 1 < team <= most:
            team = max(team, min(most, policy.SPREAD // columns))
            return team, held(team)
    return 0, 0


def _held(size, unit, each, team):
    """Bytes that a block of a team holds at most."""
    return ceil_div(ceil_div(size, team), unit) * unit * each


def _parts(size, columns, threads):
    """Parts of each of some columns of vectors, of which ``threads`` take one at a time."""
    each = min(policy.VECTORS, max(policy.LEAST_VECTORS, ceil_div(size * columns, policy.BLOCKS * threads)))
    return ceil_div(size, threads * each)


def _numbers(words, lanes):
    """Bytes on chip that a block has for sums and constants."""
    return 4 * THREADS * lanes * DTYPES[words.real].itemsize
