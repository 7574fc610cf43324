"""The copy limit: how fast this machine moves the bytes that batch normalization must move, and nothing else.

``copy`` reads one array and writes one (2e bytes per element of e bytes), ``triad`` reads two and writes one (3e). Each
has a version that stores as usual and one that streams past the caches; which is faster depends on the size. Both
fetch ahead, as the kernels do that they are the limit of.
"""

from numba import prange

from ..backends.cpu.memory import cast, fence, load, pointer, prefetch, put, to_boundary, vector_length
from ..backends.cpu.policy import AHEAD
from ..backends.cpu.simd import splat
from ..jit import device, kernel, share, thread_count


@device
def move(x, other, y, first, last, streamed):
    """``y[first:last] = x[first:last]``, and ``other[first:last]`` added to it unless that is None."""
    zero = splat(cast(x, 0.0))
    i = first
    n = to_boundary(y, i, streamed)
    while i < last:
        n = min(n, last - i)
        prefetch(x, i + AHEAD)
        value = load(x, i, n, zero)
        if other is not None:  # decided when compiling
            prefetch(other, i + AHEAD)
            value += load(other, i, n, zero)
        put(y, i, n, value, streamed)
        i += n
        n = vector_length(y)
    fence()


@kernel
def copy(x, y, streamed, threads):
    """``y = x``, an equal share for each thread."""
    threads = thread_count(threads)
    for thread in prange(threads):
        first, last = share(x.size, thread, threads)
        move(pointer(x), None, pointer(y), first, last, streamed)


@kernel
def triad(dy, x, dx, streamed, threads):
    """``dx = dy + x``, an equal share for each thread."""
    threads = thread_count(threads)
    for thread in prange(threads):
        first, last = share(x.size, thread, threads)
        move(pointer(dy), pointer(x), pointer(dx), first, last, streamed)


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
    for arrays in passes:
        (copy if len(arrays) == 2 else triad)(*arrays, streamed)
