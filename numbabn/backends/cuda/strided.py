"""Copies between arrays of one shape that lie in memory in different ways, where no view will do."""

from functools import lru_cache
from math import prod

import numpy as np

from ...jit import ceil_div
from .launch import Words, launcher
from .memory import memory_of, new_memory
from .policy import THREADS
from .simd import load, store
from .toolkit import cuda, device, kernel

AXES = 5
"""Most axes of a launch; the slowest ones of arrays that have more are taken one index at a time."""

COPY = "dd" + "l" * 17
"""Kinds of the kernel's arguments (see ``launch.launcher``)."""

COPIERS = 1024
"""Most blocks of a copy."""


@kernel
def copy_elements(source, target, size, n1, n2, n3, n4, s, s0, s1, s2, s3, s4, t, t0, t1, t2, t3, t4):
    """Copy ``size`` elements of an array of five axes, sizes ``(any, n1, n2, n3, n4)``.

    Its first one is at ``source[s]``, and goes to ``target[t]``; the others are strides away. 2e bytes per element of e
    bytes, more where neighbours are apart. Divides for a thread's first element alone: further ones are a step of all
    threads away, which is added axis by axis.
    """
    first, step = cuda.blockIdx.x * THREADS + cuda.threadIdx.x, cuda.gridDim.x * THREADS
    i0, i1, i2, i3, i4 = index_of(first, n1, n2, n3, n4)
    s += i0 * s0 + i1 * s1 + i2 * s2 + i3 * s3 + i4 * s4
    t += i0 * t0 + i1 * t1 + i2 * t2 + i3 * t3 + i4 * t4
    d0, d1, d2, d3, d4 = index_of(step, n1, n2, n3, n4)
    source_step = d0 * s0 + d1 * s1 + d2 * s2 + d3 * s3 + d4 * s4
    target_step = d0 * t0 + d1 * t1 + d2 * t2 + d3 * t3 + d4 * t4
    for _ in range(first, size, step):
        store(target, t, load(source, s))
        s, t = s + source_step, t + target_step
        i4, i3, s, t = carried(i4 + d4, i3 + d3, n4, s, s3 - n4 * s4, t, t3 - n4 * t4)
        i3, i2, s, t = carried(i3, i2 + d2, n3, s, s2 - n3 * s3, t, t2 - n3 * t3)
        i2, i1, s, t = carried(i2, i1 + d1, n2, s, s1 - n2 * s2, t, t1 - n2 * t2)
        i1, _, s, t = carried(i1, i0, n1, s, s0 - n1 * s1, t, t0 - n1 * t1)


@device
def index_of(k, n1, n2, n3, n4):
    """The k-th element's index on each axis."""
    i4, rest = k % n4, k // n4
    i3, rest = rest % n3, rest // n3
    i2, rest = rest % n2, rest // n2
    return rest // n1, rest % n1, i2, i3, i4


@device
def carried(index, before, n, s, source_jump, t, target_jump):
    """Where an index on an axis of n has become n or more: n less, one more on the axis before it, and a jump of both
    places in memory."""
    if index < n:
        return index, before, s, t
    return index - n, before + 1, s + source_jump, t + target_jump


def copy(space, source, target):
    """Copy an array's memory into another's."""
    source, target = np.asarray(source), np.asarray(target)
    if source.size == 0:
        return
    order = sorted(range(target.ndim), key=lambda axis: -abs(target.strides[axis]))
    _copy(space, source.transpose(order), target.transpose(order))


def _copy(space, source, target):
    shape, sources, targets = _merged(source, target)
    if len(shape) > AXES:
        for index in range(target.shape[0]):
            _copy(space, source[index], target[index])
        return
    missing = AXES - len(shape)
    shape, sources, targets = (1,) * missing + shape, (0,) * missing + sources, (0,) * missing + targets
    size, dtype = prod(shape), memory_of(source).dtype
    words = Words(dtype, 1, "float64" if dtype == "float64" else "float32")
    blocks = min(COPIERS, ceil_div(size, THREADS))
    (source, s), (target, t) = _extent(source), _extent(target)
    numbers = size, *shape[1:], s, *sources, t, *targets
    _prepared(words, blocks, space.device)(space.stream, (source, target), numbers)


@lru_cache(maxsize=256)
def _prepared(words, blocks, device):
    return launcher(words, copy_elements, COPY, blocks)


def _merged(source, target):
    """Sizes and strides (in elements) of both, axes that follow each other in both arrays made one."""
    merged = []
    for n, s, t in zip(source.shape, source.strides, target.strides, strict=True):
        if n == 1:
            continue
        if merged and merged[-1][1] == n * s and merged[-1][2] == n * t:
            merged[-1] = merged[-1][0] * n, s, t
        else:
            merged.append((n, s, t))
    return (
        tuple(zip(*((n, s // source.itemsize, t // source.itemsize) for n, s, t in merged), strict=True)) or ((),) * 3
    )


def _extent(array):
    """The memory from an array's lowest element to its highest, and where its first one is in it."""
    memory, size = memory_of(array), array.itemsize
    steps = [step * (n - 1) for step, n in zip(array.strides, array.shape, strict=True)]
    below, above = sum(step for step in steps if step < 0), sum(step for step in steps if step > 0)
    shape = ((above - below) // size + 1,)
    return new_memory(memory.owner, array.ctypes.data + below, shape, memory.dtype), -below // size
