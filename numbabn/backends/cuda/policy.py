"""Numbers that launches are cut by. None is measured on a card yet: first choices, with the reasoning behind them."""

from .toolkit import SIMULATED

THREADS = 4 if SIMULATED else 256
"""Threads per block, a power of two. In the simulator few, each of which is one of the system's, so that small arrays
fill several blocks."""

VECTORS = 7 if SIMULATED else 64
"""Most vectors that a thread sums before sums are merged: 256 KB a block keep it busy for microseconds, and rounding
errors stay small."""

LEAST_VECTORS = 2 if SIMULATED else 4
"""Fewest of them, where there are some: less is not worth a block."""

BLOCKS = 3 if SIMULATED else 528
"""Blocks that a small array is spread over, if it has vectors for so many: four for each multiprocessor of an H200. A
number of its own, not the card's, since what is summed in one part decides the last bits of results."""

RAGGED_FROM = 2 if SIMULATED else 4
"""Vectors of a row from which rows whose length is no multiple of a vector are read in whole ones all the same, those
at the ends partly in vain."""

WIDTH = 2 if SIMULATED else 32
"""Most vectors of channels side by side that a block of ``rows`` takes: a warp reads 512 bytes of a row."""

SETTLERS = 2 if SIMULATED else 32
"""Threads that merge the sums of one channel's parts, of which there may be hundreds; the 8 channels side by side that
a block then has are 32 bytes."""

REGISTERS = 128
"""Most registers of a thread in any kernel: two blocks of 256 threads then fit a multiprocessor of 65,536. Tests
compile all kernels and compare."""
