"""Numbers that the CPU kernels are cut by, each with its reason."""

PLANES_FROM = 16
"""Least ``inner`` for the planes family: a row then fills at least one vector. Shorter ones are read across rows."""

PLANES_RUN = 4096
"""Elements summed before they are merged in float64: 16 KB of float32, which stay in L1 for a second look."""

PLANES_PART = 16
"""Runs per part: 64 Ki elements, a few times what it costs to hand a task to a thread."""

ROWS_LANES = 64
"""Least width of a row: narrower ones (few channels) are read several at a time, so that vectors are full."""

ROWS_TILE = 1024
"""Most lanes that one task takes: 4 KB of float32 in each row, long enough for the prefetcher."""

ROWS_RUN = 128
"""Rows summed before they are merged in float64, which costs as much as 10 to 20 rows."""

ROWS_PART = 65_536
"""Least elements per task; a tile of full width takes twice that."""

ROWS_BLOCK = 8
"""Rows walked side by side, so that per-lane values are loaded once for all of them."""

FEW = 4
"""Most values per channel for which the gradient is left to float64 NumPy: dx is then little but what two almost equal
terms differ by. With 2 values per channel float32 leaves 1e-2 to 1e-5 of it wrong."""
