"""What the threads of a block share, and how blocks wait for each other.

``shared`` is memory for numbers. ``on_chip`` is memory of the same kind as the device's, which holds vectors under
numbers of their own, which spans tell (see ``simd.load_within``); as to what lies in them, and which lanes are of a
row, their offsets in the device's memory count all the same.
"""

from .toolkit import SIMULATED

if SIMULATED:
    from .block_simulated import (
        arrivals,
        arrive,
        fetch,
        on_chip,
        shared,
        wait_for_copies,
    )
else:
    from .block_compiled import (
        arrivals,
        arrive,
        fetch,
        on_chip,
        shared,
        wait_for_copies,
    )

__all__ = ["arrivals", "arrive", "fetch", "on_chip", "shared", "wait_for_copies"]
