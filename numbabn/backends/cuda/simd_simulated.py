"""Vectors in the simulator: see ``simd``."""

import numpy as np


class Simulated:
    """Memory as a kernel sees it: vectors of data, or with no ``lanes`` numbers; ``real`` is computed in."""

    def __init__(self, array, lanes, real, ragged=False, on_chip=False):
        self.array = array
        self.lanes = lanes
        self.real = np.dtype(real)
        self.ragged = ragged
        self.on_chip = on_chip

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
    memory[offset] = value


def load_within(memory, offset, span, fill):
    """The vector at an offset; lanes that are not of the row ``span`` hold those of ``fill``.

    A span is ``(whole, first, stop, number)``: how many vectors lie in memory entirely, after which no other lane is
    read; the row's first element, and the one after its last; the vector's number, if memory is on chip.
    """
    at = span[3] if memory.on_chip else offset
    if not memory.ragged:
        return load(memory, at)
    value, single = np.array(fill), memory.single()
    for lane in lanes_inside(memory, offset, span):
        value[lane] = load(single, at * value.size + lane)[0]
    return value


def first_within(memory, value, offset, span, fallback):
    """The first lane of a vector that is of a row, or ``fallback`` if none is."""
    inside = lanes_inside(memory, offset, span) if memory.ragged else [0]
    return value[inside[0]] if inside else fallback


def store_within(memory, offset, span, value):
    """Write those lanes of a vector that are of a row."""
    if not memory.ragged:
        store(memory, offset, value)
        return
    for lane in lanes_inside(memory, offset, span):
        store(memory.single(), offset * value.size + lane, value[lane : lane + 1])


def count_within(memory, offset, span):
    """How many lanes of a vector are of the row."""
    return len(lanes_inside(memory, offset, span)) if memory.ragged else lanes(memory)


def lanes_inside(memory, offset, span):
    """The lanes of a vector that are of the row."""
    begin, (_, first, stop, _) = offset * lanes(memory), span
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


def without(value, product):
    """``value - product``, or ``value`` where the product is 0 or not finite: see ``constants.without_missing``."""
    return np.where(np.isfinite(product) & (product != 0), value - product, value)


def total(value):
    """Sum of the lanes, halves folded onto each other."""
    while value.size > 1:
        value = value[: value.size // 2] + value[value.size // 2 :]
    return value[0]


def cast(numbers, value):
    """A number of the dtype of ``numbers``."""
    return numbers.array.dtype.type(value)


def gather(memory, numbers, base, start, stop):
    """A vector like those of ``memory`` from consecutive numbers from ``base`` on, of which there are ``stop``.

    Ragged memory's lanes before the first number and after the last hold these.
    """
    index = np.arange(start, start + lanes(memory))
    index = np.clip(index, 0, stop - 1) if memory.ragged else index
    return np.array([numbers[base + i] for i in index])


def gather_data(memory, start, stop):
    """The same from the elements of ``memory``."""
    single = memory.single()
    return gather(memory, [load(single, i)[0] for i in range(stop)], 0, start, stop)


def scatter(numbers, start, step, value):
    """Write the lanes of a vector ``step`` apart."""
    for lane in range(value.size):
        numbers[start + lane * step] = value[lane]
