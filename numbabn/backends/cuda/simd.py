"""Vectors on the GPU: 16 bytes of memory, or fewer where alignment asks for it, in the dtype that is computed in.

What its pointers point to is the type that a kernel is compiled for, so that one text serves both widths and all
dtypes: float16 and bfloat16 are float32 in registers, and all may be float64. Offsets count vectors. In the simulator
memory is ``Simulated``, with bfloat16 as uint16, and a vector is an array.
"""

from .toolkit import SIMULATED

if SIMULATED:
    from .simd_simulated import (
        cast,
        count_within,
        element,
        first_within,
        fma,
        gather,
        gather_data,
        lanes,
        load,
        load_within,
        relu,
        scatter,
        splat,
        store,
        store_within,
        total,
        vector_of,
        where_active,
        where_nonzero,
    )
else:
    from .simd_compiled import (
        cast,
        count_within,
        element,
        first_within,
        fma,
        gather,
        gather_data,
        lanes,
        load,
        load_within,
        relu,
        scatter,
        splat,
        store,
        store_within,
        total,
        vector_of,
        where_active,
        where_nonzero,
    )

__all__ = [
    "cast",
    "count_within",
    "element",
    "first_within",
    "fma",
    "gather",
    "gather_data",
    "lanes",
    "load",
    "load_within",
    "relu",
    "scatter",
    "splat",
    "store",
    "store_within",
    "total",
    "vector_of",
    "where_active",
    "where_nonzero",
]
