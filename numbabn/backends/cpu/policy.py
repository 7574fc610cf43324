"""Numbers that the CPU kernels are cut by, each with its reason; where none is measured, it is a first choice."""

PLANES_FROM = 16
"""Least ``inner`` for the planes family: a row then fills at least one vector. Shorter ones are read across rows."""

PLANES_RUN = 4096
"""Elements summed before they are merged in float64: 16 KB of float32, which stay in L1 for a second look."""

PLANES_PART = 16
"""Runs per part: 64 Ki elements, where two threads begin to pay (see ``jit.SERIAL_BELOW``)."""

ROWS_LANES = 64
"""Least width of a row: narrower ones (few channels) are read several at a time, so that vectors are full."""

ROWS_TILE = 1024
"""Most lanes that one task takes: 4 KB of float32 in each row, so that a task's per-lane values stay in L1."""

ROWS_RUN = 128
"""Rows summed before they are merged in float64: 8 Ki elements of the narrowest row, and short sums in float32."""

ROWS_PART = 65_536
"""Least elements per task; a tile of full width takes twice that."""

ROWS_BLOCK = 8
"""Rows walked side by side, so that per-lane values are loaded once for all of them."""

FEW = 4
"""Most values per channel for which the gradient is left to float64 NumPy: dx is then little but what two almost equal
terms differ by. With 2 values per channel float32 left up to 1e-2 of it wrong."""
