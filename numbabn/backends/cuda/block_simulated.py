"""What a block shares, in the simulator: see ``block``."""

import sys
import threading
import time

import numpy as np

from . import toolkit
from .simd_simulated import Simulated, lanes_inside

LOCK = threading.Lock()
PATIENCE = 60.0
"""Seconds of one wait after which a team is taken to have failed."""


def shared(memory, rows, columns):
    """Memory that a block shares: rows of so many columns, each of a number for every lane."""
    caller = sys._getframe(1)
    size = rows * columns * (memory.lanes or 1)
    array = _block_memory((caller.f_code, rows, columns), size, memory.real)
    return Simulated(array, None, memory.real)


def on_chip(memory, first):
    """Memory like another for vectors that a block shares, from a number on. How much, the launch tells."""
    size = toolkit.current_block().shared_bytes // memory.array.itemsize
    array = _block_memory("on chip", size, memory.array.dtype)[first * memory.lanes :]
    return Simulated(array, memory.lanes, memory.real, memory.ragged, on_chip=True)


def _block_memory(name, size, dtype):
    """An array that a block shares; at first every bit is set, which is a NaN in all dtypes."""
    arrays = toolkit.current_block().arrays
    with LOCK:
        if name not in arrays:
            arrays[name] = np.full(size * np.dtype(dtype).itemsize, 0xFF, np.uint8).view(dtype)
    return arrays[name]


def fetch(chip, memory, offset, span):
    """Begin to copy a vector onto the chip, in which lanes that are not of the row are left to chance: here NaN."""
    single, target, size = memory.single(), chip.single(), memory.lanes
    chip[span[3]] = np.full(chip[span[3]].nbytes, 0xFF, np.uint8).view(chip.array.dtype)
    for lane in lanes_inside(memory, offset, span) if memory.ragged else range(size):
        target[span[3] * size + lane] = single[offset * size + lane]


def wait_for_copies():
    """Wait for all that this thread has begun to copy."""


def arrive(counters, team, size):
    """Count a block of a team."""
    toolkit.current_block().waits_since = time.monotonic()
    leave(counters, team, size)


def leave(counters, team, size):
    """Count a block once more when it has seen all arrive; the count after the last one is 0."""
    with LOCK:
        counters[team] = (counters[team] + 1) % (2 * size)


def arrivals(counters, team):
    """How many blocks of a team have been counted."""
    if time.monotonic() - toolkit.current_block().waits_since > PATIENCE:
        raise TimeoutError("the other blocks of the team do not arrive")
    time.sleep(0)
    return counters[team]
