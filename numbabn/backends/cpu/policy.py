"""Numbers that the CPU kernels are cut by, each with its reason; where none is measured, it is a first choice."""

PLANES_FROM = 16
"""Least ``inner`` for the planes family: a row then fills at least one vector. Shorter ones are read across rows."""

PLANES_GROUP = 512
"""Lanes of rows that are put together to be streamed: alone, rows this short are mostly broken lines."""

PLANES_RUN = 4096
"""Elements summed in their own dtype before they are added up in float64."""

PLANES_PART = 16
"""Runs per part: 64 Ki elements, where two threads begin to pay (see ``jit.SERIAL_BELOW``)."""

ROWS_LANES = 64
"""Least width of a row: narrower ones (few channels) are read several at a time, so that vectors are full."""

ROWS_TILE = 512
"""Most lanes that one task takes: 2 KB of float32 in each row, so that a task's per-lane values stay in L1."""

ROWS_RUN = 128
"""Rows summed in their own dtype before they are added up in float64."""

ROWS_PART = 65_536
"""Least elements per task; a tile of full width takes twice that."""

ROWS_PARTS = 64
"""Most parts that the rows of an array are cut into."""

SAMPLES = 8
"""Values per channel (vectors of them in long rows) that a first guess of its mean is taken from: of normal values, one
channel in a million then needs a second look."""

AHEAD = 1024
"""Elements to prefetch ahead of a walk in order: past the end of a 4 KB page, where the hardware stops."""

CACHE_SHARE = 0.8
"""Share of the second-level cache that arrays kept there between two walks, and those prefetched, may take."""

STREAM_FROM = 2
"""Second-level caches that an output must fill at least to be written past them."""

FEW = 4
"""Most values per channel for which the gradient is left to float64 NumPy: dx is then little but what two almost equal
terms differ by. With 2 values per channel float32 left up to 1e-2 of it wrong."""
