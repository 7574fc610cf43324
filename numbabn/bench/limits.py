"""The copy limit: how fast this machine moves the bytes that batch normalization must move, and nothing else.

``copy`` reads one array and writes one (2e bytes per element of e bytes), ``triad`` reads two and writes one (3e). Each
has a version that stores as usual and one that streams past the caches; which is faster depends on the size.
"""

import numba
from numba import prange

from ..backends.cpu.simd import BYTES, load, settle, splat, store, stream, unaligned
from ..jit import device, kernel


@device
def copy_part(x, y, first, last, streamed):
    """``y[first:last] = x[first:last]``."""
    lanes = BYTES // y.itemsize
    zero = splat(y.dtype.type(0))
    i = first
    if streamed:
        head = min(unaligned(y, first), last - first)
        store(y, i, head, load(x, i, head, zero))
        i += head
        while i + lanes <= last:
            stream(y, i, load(x, i, lanes, zero))
            i += lanes
        settle()
    while i + lanes <= last:
        store(y, i, lanes, load(x, i, lanes, zero))
        i += lanes
    store(y, i, last - i, load(x, i, last - i, zero))


@device
def triad_part(dy, x, dx, first, last, streamed):
    """``dx[first:last] = dy[first:last] + x[first:last]``."""
    lanes = BYTES // dx.itemsize
    zero = splat(dx.dtype.type(0))
    i = first
    if streamed:
        head = min(unaligned(dx, first), last - first)
        store(dx, i, head, load(dy, i, head, zero) + load(x, i, head, zero))
        i += head
        while i + lanes <= last:
            stream(dx, i, load(dy, i, lanes, zero) + load(x, i, lanes, zero))
            i += lanes
        settle()
    while i + lanes <= last:
        store(dx, i, lanes, load(dy, i, lanes, zero) + load(x, i, lanes, zero))
        i += lanes
    store(dx, i, last - i, load(dy, i, last - i, zero) + load(x, i, last - i, zero))


@kernel
def copy(x, y, tasks, streamed):
    """``y = x``, an equal share for each task."""
    for task in prange(tasks):
        copy_part(x, y, x.size * task // tasks, x.size * (task + 1) // tasks, streamed)


@kernel
def triad(dy, x, dx, tasks, streamed):
    """``dx = dy + x``, an equal share for each task."""
    for task in prange(tasks):
        triad_part(dy, x, dx, x.size * task // tasks, x.size * (task + 1) // tasks, streamed)


def run(passes, *, streamed: bool) -> None:
    """Move the bytes of some passes over memory.

    Parameters
    ----------
    passes : list of tuples of 1-D arrays, contiguous, of one length and dtype
        ``(x, y)`` for a copy, ``(dy, x, dx)`` for a triad; the last array of each is written.
    streamed : bool
        Whether to write past the caches.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.arange(5.0), np.zeros(5)
    >>> run([(x, y)], streamed=True)
    >>> y
    array([0., 1., 2., 3., 4.])
    """
    tasks = numba.get_num_threads()
    for arrays in passes:
        (copy if len(arrays) == 2 else triad)(*arrays, tasks, streamed)
