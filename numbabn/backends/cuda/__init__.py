"""Batch normalization on NVIDIA GPUs, in kernels of numba-cuda: the twin of ``cpu``.

Two families: ``planes`` where a channel's values lie in contiguous rows, ``rows`` where channels lie side by side. A
call is one launch where blocks can hold their channels on chip. Else it is three: sums over parts of the channels,
statistics (or gradients of the parameters) settled from them, and the second walk. What is where, in the order of a
call::

    on_device            the public functions for arrays that live on a device
    carried              the four functions of a backend, for NumPy arrays
    libraries, memory    whose arrays these are: address, stream, new ones of the same kind
    strided              copies of arrays that fit no view
    passes               the launches of a pass
    plans, policy        the blocks of a shape, and the numbers that they are cut by
    launch               kernels with their types, blocks and arguments
    toolkit              the import of numba-cuda
    planes, rows         the kernels that walk over data; planes_walks, rows_walks: what a thread of them does
    moments              sums of threads and parts put together; statistics
    constants, epilogue  numbers for each channel; what is fused
    simd                 vectors: loads, stores, arithmetic; simd_compiled (by llvm), simd_simulated

So far these kernels have run in the simulator and have been compiled for sm_80 and sm_90, and not been on a card.
"""

from .carried import HALVES, backward, forward_inference, forward_training, statistics

__all__ = ["HALVES", "backward", "forward_inference", "forward_training", "statistics"]
