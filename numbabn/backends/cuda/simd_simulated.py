"""Vectors in the simulator: see ``simd``."""

import threading

import numpy as np

from .policy import THREADS
from .toolkit import cuda

ALLOCATION = threading.Lock()


class Simulated:
    """Memory as a kernel sees it: vectors of data, or with no ``lanes`` numbers; ``real`` is computed in."""

    def __init__(self, array, lanes, real, ragged=False):
        self.array = array
        self.lanes = lanes
        self.real = np.dtype(real)
        self.ragged = ragged

    def single(self):
        """The same memory an element at a time."""
        return Simulated(self.array, 1, self.real)

    def _at(self, index):
        if not 0 <= index < self.array.size // (self.lanes or 1):
            raise IndexError(f"{index} is outside of {self.array.size} elements in vectors of {self.lanes}")
        return slice(index * self.lanes, (index + 1) * self.lanes) if self.lanes else index

    def __getitem__(self, index):
        return self.array[self._at(index)]

    def __setitem__(self, index, value):
        self.array[self._at(index)] = value


def load(memory, offset):
    """The vector at ``memory[offset]``."""
    row = np.array(memory[offset])
    if row.dtype == np.uint16:
        row = (row.astype(np.uint32) << 16).view(np.float32)
    return row.astype(memory.real)


def store(memory, offset, value):
    """Write a vector to ``memory[offset]``."""
    if memory.array.dtype == np.uint16:
        bits = value.astype(np.float32).view(np.uint32)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        value = np.where(np.isnan(value), np.uint16(0x7FC0), rounded)
    with np.errstate(over="ignore"):
        memory[offset] = value


def load_within(memory, offset, span, fill):
    """The vector at an offset; lanes that are not of the row ``span`` hold those of ``fill``.

    A span is ``(whole, first, stop)``: how many vectors lie in memory entirely, behind which no other lane is read;
    the row's first element, and the one behind its last.
    """
    if not memory.ragged:
        return load(memory, offset)
    value, single = np.array(fill), memory.single()
    for lane in _inside(memory, offset, span):
        value[lane] = load(single, offset * value.size + lane)[0]
    return value


def store_within(memory, offset, span, value):
    """Write those lanes of a vector that are of a row."""
    if not memory.ragged:
        store(memory, offset, value)
        return
    for lane in _inside(memory, offset, span):
        store(memory.single(), offset * value.size + lane, value[lane : lane + 1])


def within(memory, offset, span):
    """How many lanes those are."""
    return len(_inside(memory, offset, span)) if memory.ragged else lanes(memory)


def _inside(memory, offset, span):
    """Those lanes."""
    begin, (_, first, stop) = offset * lanes(memory), span
    return range(max(0, first - begin), min(lanes(memory), stop - begin))


def element(memory, index):
    """One element."""
    return load(memory.single(), index)[0]


def vector_of(memory, element):
    """The offset of the vector that an element is in."""
    return element // lanes(memory)


def lanes(memory):
    """Elements in a vector."""
    return memory.lanes


def splat(memory, scalar):
    """A vector with ``scalar`` in every lane."""
    return np.full(lanes(memory), scalar, memory.real)


def fma(a, b, c):
    """``a * b + c``; here it is rounded twice."""
    return a * b + c


def relu(value):
    """``max(value, 0)``; NaN stays NaN."""
    return np.where(value < 0, value.dtype.type(0), value)


def where_active(gradient, value):
    """``gradient`` where ReLU let ``value`` through (or it is NaN), else 0."""
    return np.where(value <= 0, gradient.dtype.type(0), gradient)


def total(value):
    """Sum of the lanes, halves folded onto each other."""
    while value.size > 1:
        value = value[: value.size // 2] + value[value.size // 2 :]
    return value[0]


def cast(numbers, value):
    """A number of the dtype of ``numbers``."""
    return numbers.array.dtype.type(value)


def gather(memory, numbers, start):
    """A vector like those of ``memory`` from consecutive numbers."""
    return np.array([numbers[start + lane] for lane in range(lanes(memory))])


def scatter(numbers, start, step, value):
    """Write the lanes of a vector ``step`` apart."""
    for lane in range(value.size):
        numbers[start + lane * step] = value[lane]


def shared(memory, rows):
    """Memory that a block shares: rows of a number for each thread and lane."""
    width = memory.lanes or 1
    with ALLOCATION:  # two threads that find nothing there would each get their own
        return cuda.shared.array(rows * THREADS * width, memory.real)
