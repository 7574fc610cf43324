"""Kernels as they are compiled for cards, where there is none: each once, whatever asks for it.

Importing this lets numba-cuda take a card of a generation for there, for as long as the process lasts.
"""

from functools import cache
from types import SimpleNamespace

import numba.cuda.dispatcher
from numba.cuda.cudadrv import devices

CARD = SimpleNamespace(compute_capability=(9, 0))
numba.cuda.dispatcher.get_current_device = lambda: CARD
devices.get_context = lambda: SimpleNamespace(device=CARD)


@cache
def compiled(kernel, types):
    """A kernel for arguments of some types, with ``inspect_llvm()`` and ``inspect_asm(generation)``.

    What ``kernel.compile(types)`` makes, but not loaded onto a card, nor taken from Numba's cache, which does not see
    that a function in another file has changed.
    """
    return numba.cuda.dispatcher._Kernel(kernel.py_func, types, launch_bounds=kernel.targetoptions["launch_bounds"])
