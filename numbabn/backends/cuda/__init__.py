"""Batch normalization on NVIDIA GPUs, in kernels of numba-cuda: the twin of ``cpu``.

Two families: ``planes`` where a channel's values lie in contiguous rows, ``rows`` where channels lie side by side. A
call is one launch where blocks can hold their channels on chip. Else it is up to three: sums over parts of the
channels, in training and for gradients; statistics, or gradients of the parameters, settled from them; the walk that
writes. What is where, in the order of a call::

    on_device            the public functions for arrays that live on a device
    carried              the four functions of a backend, for NumPy arrays
    libraries, memory    whose arrays these are: address, stream, new ones of the same kind
    strided              copies of arrays that fit no view
    passes               the launches of a pass
    counters             at which the blocks of teams wait for each other
    cut, policy          the blocks of a shape, and the numbers that they are cut by
    launch               kernels with their types, blocks and arguments
    toolkit              what is needed of numba-cuda; its LLVM extensions are in *_compiled and llvm alone
    planes, rows         the kernels that walk over data; planes_walks, rows_walks: what a thread of them does
    moments              sums of threads and parts put together; statistics
    constants, epilogue  numbers for each channel; what is fused
    simd                 vectors: loads, stores, arithmetic; simd_compiled (by llvm), simd_simulated
    block                what a block shares, and how blocks wait; block_compiled, block_simulated

So far these kernels have run in the simulator and, their LLVM code compiled for it, on the processor; not on a card.
"""

from .carried import HALVES, backward, forward_inference, forward_training, statistics

__all__ = ["HALVES", "backward", "forward_inference", "forward_training", "statistics"]
