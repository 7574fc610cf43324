"""Numbers that the CPU kernels are cut by, each with its reason; where none is measured, it is a first choice.

Times are of float32 and two threads, on two cores of an AVX-512 Xeon with 2 MB of second-level cache each, in 2026.
"""

PLANES_FROM = 16
"""Least ``inner`` for the planes family: a row then fills at least one vector. Shorter ones are read across rows. Not
below 16, the lanes of a vector of float32: in ``planes_spans`` one may meet two channels, not three."""

PLANES_GROUP = 512
"""Lanes of rows of neighbouring channels that are taken together if they are streamed: rows this short lose to the
broken lines at their ends."""

PLANES_BRIEF = 1024
"""Most values of channels that are taken together even if they are not streamed: what is done once for each is then
much of the work. Two cores of an EPYC, forward in training and backward: (2, 1024, 5, 5) 1.5 and 1.3 times as fast
together, (4, 256, 7, 7) 1.3 and 1.1; but (1000, 1, 4, 4) 0.6 and 0.5, (32, 8, 16, 16) 0.9."""

PLANES_LINE = 16
"""Elements that groups of rows are made multiples of: whole lines of float32, so that rows do not share broken ones."""

PLANES_RUN = 4096
"""Elements summed in their own dtype before they are added up in float64."""

PLANES_PART = 16
"""Runs per part: 64 Ki elements, where two threads begin to pay (see ``jit.SERIAL_BELOW``)."""

FEW_SIDE_BY_SIDE, FEW_IN_ROWS = 8, 16
"""Most values per channel that ``few`` takes in training, where channels lie side by side and where they lie in short
rows. Not below 4: gradients over so few need more than the sums that ``rows`` takes. Above, the faster one wins: two
cores of an EPYC, us forward in training and backward, (8, 256): ``rows`` 24 and 20, ``few`` 20 and 17; (16, 16384): 226
and 258, 243 and 265; (2, 2048, 2, 2): 108 and 91, 71 and 70; (6, 2048, 2, 2): 82 and 77, 96 and 99."""

FEW_GROUP = 256
"""Channels that ``few`` takes together: the ten float64 numbers that each needs in backward are 20 KB of a first-level
cache's 32. Four shapes of 4 and 8 values on an EPYC, geometric means: with 128 0.97 times as fast forward and 0.92
backward, with 512 1.00 and 0.95, with 1024 0.98 and 0.86."""

ROWS_LANES = 64
"""Least width of a row: narrower ones (few channels) are read several at a time, so that vectors are full."""

ROWS_TILE = 2048
"""Most lanes that one task takes: per row of constants or sums 8 KB of float32. Narrower tiles leave short spans;
(1568, 2048), forward in training and backward: 1.37 and 2.47 ms with 512, 1.13 and 2.04 ms with 2048."""

ROWS_RUN = 128
"""Rows summed in their own dtype before they are added up in float64."""

ROWS_PART = 65_536
"""Least elements per task, as far as there are rows enough."""

ROWS_PARTS = 64
"""Most parts that whole rows are cut into."""

CHANNEL_WORK = 16
"""Elements that take as long as what is done once for a channel that is summed over: so many more may make a call worth
waking threads for. Two cores of an EPYC, one thread and two: (16, 2048) forward in training 35 and 23 us, backward 43
and 24; inference, where they do not count, 17 and 15."""

SAMPLES = 8
"""Values per channel (vectors of them in long rows) that a first guess of its mean is taken from: of normal values, one
channel in a million then needs a second look."""

AHEAD = 1024
"""Elements to prefetch ahead of a walk in order: past the end of a 4 KB page, where the hardware stops. Inference on
(100352, 64): 1.36 ms, 1.55 ms without."""

CACHE_SHARE = 0.8
"""Share of the second-level cache that arrays kept there between two walks, and those prefetched, may take. Prefetching
the next channel took the forward pass on (32, 64, 56, 56) from 1.7 to 1.35 times a copy."""

COPY_SHARE = 0.5
"""Share of the second-level cache that copies of channels may take (see ``planes_source``): a first choice."""

STREAM_FROM = 0.5
"""Share of all threads' second-level caches that an output must fill to be written past them. Two threads of 2 MB each:
3.2 MB of normalised output took 0.144 ms streamed and 0.178 ms stored, 1 MB of plain copy 0.042 and 0.023 ms."""

STREAM_INFERENCE_FROM = 2 / 3
"""Share of all threads' third-level caches that inference's arrays must fill, too, where these are fast: AMD's Zen.
On two cores of an EPYC that have 32 MB of it, input and output of together 3 to 20 MB took 1.2 times as long streamed
(five shapes, geometric mean), from 24 MB on less long; the border is 21 MB. Not in training: with short planes streamed
outputs are faster there, and with long ones they leave the cache to whoever reads y next.
"""
