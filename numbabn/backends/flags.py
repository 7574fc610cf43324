"""What a kernel is asked to do, in numbers: Numba compiles it once for all of them. The same for CPU and GPU."""

ADDS, CLIPS, MEASURES, WRITES, FILLS = 1, 2, 4, 8, 64
"""Forward: add the residual; apply ReLU; fill in the statistics; write y; fill in the rest of the table, and let what
is measured enter the running statistics. (16 and 32 are below.)"""

FROM_X, FROM_Y, FROZEN = 1, 2, 4
"""Backward: recompute from x where ReLU was open; read it off y, and write dresidual; statistics were constants."""

STREAMS, STREAMS_RESIDUAL = 16, 32
"""CPU, both, set by the kernel itself (see ``cpu.walks``): write y or dx past the caches; dresidual, too."""
