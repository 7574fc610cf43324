"""How arrays are cut: the launch of each shape, by the numbers of ``policy``.

What is preferred here is reasoned, not timed: no card was at hand.
"""

from functools import lru_cache, partial
from math import gcd

from ...jit import ceil_div
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
        Very few values per channel are then computed with in float64 (``policy.FEW``).
    inputs : int
        Arrays that are walked over twice: 1 forward, x, and 2 backward, dy too.
    card : toolkit.Card
    """
    outer, channels, inner = shape
    values, itemsize = outer * inner, DTYPES[dtype].itemsize
    real = "float64" if dtype == "float64" or (training and values <= policy.FEW) else "float32"
    lanes = max(1, alignment // itemsize)
    lanes = min(lanes, policy.LANES_OF_FLOAT64) if real == "float64" else lanes
    inference = inputs == 1 and not training
    held = 0 if inference and values * channels * itemsize > policy.AT_ONCE else inputs
    words = partial(Words, dtype, real=real)
    launch = partial(Launch, channels=channels, values=values, waits=not inference)
    if inner == 1:
        return _rows(outer, channels, words, lanes, held, card, launch)
    return _planes(outer, channels, inner, words, lanes, held, card, launch)


def _planes(outer, channels, inner, words, lanes, held, card, launch):
    """A launch of kernels of ``planes``; ``held`` arrays are to be on chip."""
    ragged = inner % lanes > 0 and inner >= policy.RAGGED_FROM * lanes
    words = words(lanes=lanes if ragged else gcd(lanes, inner), ragged=ragged)
    slots = ceil_div(inner + words.lanes - 1, words.lanes) if ragged else inner // words.lanes
    count, shared_bytes = _team(outer * slots, 1, held * words.bytes, _static_bytes(words, 1), channels, card)
    count = count or _parts(outer * slots, channels, THREADS)
    sizes = outer, channels, inner, slots, count
    return launch(planes, words, sizes, count, channels * count, shared_bytes)


def _rows(outer, channels, words, lanes, held, card, launch):
    """A launch of kernels of ``rows``; ``held`` arrays are to be on chip."""
    known = words(lanes=gcd(lanes, channels) or 1)
    slots, period = channels // known.lanes, 1
    width, count, shared_bytes = _tile(outer, slots, known, held, card)
    if count != 1 and channels % lanes > 0 and channels >= policy.RAGGED_FROM * lanes:
        # two walks in whole vectors, since a team would read in as many more loads as its vectors are shorter
        period, known = lanes // known.lanes, words(lanes=lanes, ragged=True)
        slots = ceil_div(channels + lanes - 1, lanes)
        width, count, shared_bytes = _widest(slots, known), 0, 0
    tiles = ceil_div(slots, width)
    count = count or period * _parts(ceil_div(outer, period), tiles * period, THREADS // width)
    sizes = outer, channels, slots, width, period, count
    return launch(rows, known, sizes, count, tiles * count, shared_bytes)


def _tile(outer, slots, words, held, card):
    """Slots side by side that a block of ``rows`` takes, and ``_team``'s answer for them.

    A block that holds its tile's rows alone is preferred, with as wide a tile as leaves blocks enough; then a team,
    with the widest tile of which two teams have room at a time, or one.
    """
    widest, least = _widest(slots, words), max(1, policy.TILE // words.bytes)
    widths = [widest >> k for k in range(widest.bit_length()) if k == 0 or widest >> k >= least]
    chosen = widest, 0, 0
    for width in widths:
        tiles, each = ceil_div(slots, width), held * width * words.bytes
        own = _static_bytes(words, words.lanes)
        count, shared_bytes = _team(outer, THREADS // width, each, own, tiles, card)
        if count == 1 and (tiles >= policy.SPREAD or width == widths[-1]):
            return width, count, shared_bytes
        roomy = 0 < chosen[1] <= card.multiprocessors // 2
        if count > 1 and width * words.bytes <= policy.TEAM_TILE and not roomy:
            chosen = width, count, shared_bytes
    return chosen


def _widest(slots, words):
    """The most slots of a row that a block takes, a power of two: it has a thread for each of their channels."""
    return min(policy.WIDTH, THREADS // words.lanes, 1 << (slots - 1).bit_length()) if slots else 1


def _team(size, unit, each, own, columns, card):
    """Blocks that hold ``size`` slots of a channel together, and the bytes that each holds; 0 and 0 if it is too much.

    A block's slots come by the ``unit``, and ``each`` has so many bytes; ``own`` it needs besides. Where a block alone
    cannot hold them, two on a multiprocessor, one of which can wait while the other reads or writes, are preferred to
    one. Where the ``columns`` that teams share are few, about SPREAD blocks are made of them.
    """

    def held(team):
        return ceil_div(ceil_div(size, team), unit) * unit * each

    room = min(card.shared_memory - own, policy.ON_CHIP)
    if 0 < held(1) <= room:
        return 1, held(1)
    most = min(card.multiprocessors, policy.TEAM)
    for limit in (min(room, policy.HALF - own), room):
        units = limit // (each * unit) if each else 0
        team = ceil_div(ceil_div(size, unit), units) if units > 0 and columns else 0
        if 1 < team <= most:
            team = max(team, min(most, policy.SPREAD // columns))
            return team, held(team)
    return 0, 0


def _parts(size, columns, threads):
    """Parts of each of some columns of vectors, of which ``threads`` take one at a time."""
    each = min(policy.VECTORS, max(policy.LEAST_VECTORS, ceil_div(size * columns, policy.BLOCKS * threads)))
    return ceil_div(size, threads * each)


def _static_bytes(words, lanes):
    """Of shared memory that kernels on chip have besides, at most: 3 numbers for each thread, 6 for a tile's slots."""
    return (3 * THREADS + 6 * policy.WIDTH) * lanes * DTYPES[words.real].itemsize
