"""Vectors on the GPU: 16 bytes of memory, or fewer where alignment asks for it, in the dtype that is computed in.

What its pointers point to is the type that a kernel is compiled for, so that one text serves both widths and all
dtypes: float16 and bfloat16 are float32 in registers, and all may be float64. Offsets count vectors. In the simulator
memory is ``Simulated``, with bfloat16 as uint16, and a vector is an array.
"""

from .toolkit import SIMULATED

if SIMULATED:
    from . import simd_simulated as kind
else:
    from . import simd_compiled as kind

cast = kind.cast
count_within = kind.count_within
element = kind.element
first_within = kind.first_within
fma = kind.fma
gather = kind.gather
gather_data = kind.gather_data
lanes = kind.lanes
load = kind.load
load_within = kind.load_within
relu = kind.relu
scatter = kind.scatter
splat = kind.splat
store = kind.store
store_within = kind.store_within
total = kind.total
vector_of = kind.vector_of
where_active = kind.where_active
without = kind.without
