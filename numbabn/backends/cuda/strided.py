"""Copies between arrays of one shape that lie in memory in different ways, where no view will do."""

from functools import lru_cache
from math import prod

import numpy as np

from ...jit import ceil_div
from .launch import Words, launcher
from .memory import memory_of, new_memory
from .policy import THREADS
from .simd import load, store
from .toolkit import cuda, kernel

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
    bytes, more where neighbours are apart.
    """
    for k in range(cuda.blockIdx.x * THREADS + cuda.threadIdx.x, size, cuda.gridDim.x * THREADS):
        i4, rest = k % n4, k // n4
        i3, rest = rest % n3, rest // n3
        i2, rest = rest % n2, rest // n2
        i1, i0 = rest % n1, rest // n1
        value = load(source, s + i0 * s0 + i1 * s1 + i2 * s2 + i3 * s3 + i4 * s4)
        store(target, t + i0 * t0 + i1 * t1 + i2 * t2 + i3 * t3 + i4 * t4, value)


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
    arguments = source, target, size, *shape[1:], s, *sources, t, *targets
    _prepared(words, blocks, space.device)(space.stream, arguments)


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
