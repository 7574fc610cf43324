"""Numbers that launches are cut by. None is measured on a card yet: first choices, with the reasoning behind them."""

from .toolkit import SIMULATED

THREADS = 8 if SIMULATED else 256
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

ON_CHIP = 768 if SIMULATED else 200 << 10
"""Most bytes that a block holds, so as to read them once: a multiprocessor of an H200 has 227 KB for its blocks. Cards
that have less hold less."""

HALF = 4096 if SIMULATED else 113 << 10
"""Bytes of shared memory that a block has where two are on a multiprocessor of an H200: of 228 KB, 1 KB of which are
taken for each."""

TEAM = 8 if SIMULATED else 128
"""Most blocks of a team, of which there are never more than multiprocessors. On an H200 a team holds up to 26 MB, near
half of its 60 MB of L2 cache: so there is no other kernel for channels that fit the cache alone."""

AT_ONCE = 512 if SIMULATED else 4 << 20
"""Most bytes of x for which inference is one launch. Above, a second one, which settles constants, costs little beside
them, and x need not go through the chip."""

SPREAD = 2 if SIMULATED else 132
"""Blocks that an array that is held on chip is spread over, if it has slots for so many: one for each multiprocessor of
an H200."""

TILE = 16 if SIMULATED else 64
"""Least bytes of a row that a block that holds its tile reads, unless the rows are shorter: two
of the sectors of 32 bytes that memory is read by."""

TEAM_TILE = 16 if SIMULATED else 128
"""Most bytes of a row that a block of a team reads. Each block reads the sums of all its team, which grow with the
square of it: of 128 blocks that hold 512 bytes of a row each, they would be as many bytes as each holds."""

WIDTH = 2 if SIMULATED else 32
"""Most slots of a row that a block of ``rows`` takes, a power of two: a warp reads 512 bytes of a row."""

SETTLERS = 2 if SIMULATED else 32
"""Threads that merge the sums of one channel's parts, of which there may be hundreds; the 8 channels side by side that
a block then has are 32 bytes."""

FEW = 4
"""Most values per channel that are computed with in float64 in training, whatever the data: a gradient is then little
but what two almost equal terms differ by (see the CPU's ``few``)."""

LANES_OF_FLOAT64 = 2
"""Most lanes of a vector that is computed in float64, whatever the data: two registers each, as 16 bytes of float64."""

BLOCKS_EACH = 2
"""Blocks that fit a multiprocessor at least: 512 threads share 65,536 registers, so that each may have 128."""

COMPILED = "THREADS", "WIDTH", "SETTLERS", "BLOCKS_EACH"
"""Of these numbers, those that kernels are compiled with; launches are cut by the others."""
