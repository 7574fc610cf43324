"""What the threads of a block share, and how blocks wait for each other.

``shared`` is memory for numbers. ``on_chip`` is memory of the same kind as the device's, which holds vectors under
numbers of their own, which spans tell (see ``simd.load_within``); as to what lies in them, and which lanes are of a
row, their offsets in the device's memory count all the same.
"""

from .toolkit import SIMULATED

if SIMULATED:
    from . import block_simulated as kind
else:
    from . import block_compiled as kind

arrivals = kind.arrivals
arrive = kind.arrive
fetch = kind.fetch
leave = kind.leave
on_chip = kind.on_chip
shared = kind.shared
wait_for_copies = kind.wait_for_copies
