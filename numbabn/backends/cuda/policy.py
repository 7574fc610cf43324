"""Numbers that launches are cut by. None is measured on a card yet: first choices, with the reasoning behind them."""

from .toolkit import SIMULATED

THREADS = 4 if SIMULATED else 256
"""Threads per block, a power of two. In the simulator few, each of which is one of the system's, so that small arrays
fill several blocks."""

VECTORS = 7 if SIMULATED else 64
"""Vectors that a thread sums before sums are merged: 256 KB a block keep it busy for microseconds, and rounding errors
stay small."""

WIDTH = 2 if SIMULATED else 32
"""Most vectors of channels side by side that a block of ``rows`` takes: a warp reads 512 bytes of a row."""

SETTLERS = 2 if SIMULATED else 8
"""Threads that merge the sums of one channel's parts."""

REGISTERS = 128
"""Most registers of a thread in any kernel: two blocks of 256 threads then fit a multiprocessor of 65,536. Tests
compile all kernels and compare."""
