"""Memory seen by vectors: loads, stores (masked at the end of a row, or past the caches), prefetches.

Memory is addressed by element offsets (``intp``) from the first element of a contiguous array of any rank, or from a
pointer to it (``pointer``): what a function is given a pointer to, it neither counts references to nor unpacks. Only
an array that outlives the pointer may be pointed to: the kernel's arguments, or one that a later statement or the next
round of a loop still names, since Numba frees an array after its last use. Addresses are formed with ``gep``: LLVM 22
can miscompile pointers that travel through integers.
"""

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic, overload
from numba.np.numpy_support import as_dtype

from ...jit import device
from .simd import BYTES, INT32, Vector, splat_lanes


def element_pointer(context, builder, memory_type, memory, offset):
    """Pointer to the element at ``offset`` of an array or of what a pointer points to."""
    data = context.make_array(memory_type)(context, builder, memory).data if _is_array(memory_type) else memory
    return builder.gep(data, [offset])


def vector_pointer(context, builder, memory_type, memory, offset, vector_type):
    """The same, seen as pointer to a vector."""
    return builder.bitcast(element_pointer(context, builder, memory_type, memory, offset), vector_type.as_pointer())


def _is_array(memory_type):
    return isinstance(memory_type, types.Array)


def lane_mask(builder, memory, count):
    """The alignment and mask that LLVM's masked operations take, for the first ``count`` lanes."""
    lanes = BYTES * 8 // memory.dtype.bitwidth
    index = ir.Constant(ir.VectorType(INT32, lanes), list(range(lanes)))
    limit = splat_lanes(builder, builder.trunc(count, INT32), index.type)
    return ir.Constant(INT32, memory.dtype.bitwidth // 8), builder.icmp_signed("<", index, limit)


def masked_operation(builder, name, result, arguments):
    """Call ``llvm.masked.load`` or ``llvm.masked.store``."""
    vector = arguments[0].type if name == "store" else arguments[-1].type
    suffix = f"v{vector.count}f{32 if isinstance(vector.element, ir.FloatType) else 64}"
    function_type = ir.FunctionType(result, [a.type for a in arguments])
    function = builder.module.declare_intrinsic(f"llvm.masked.{name}.{suffix}.p0", (), function_type)
    return builder.call(function, arguments)


@intrinsic
def pointer(typingctx, array):
    """Pointer to an array's first element; see above which may be pointed to."""

    def codegen(context, builder, signature, args):
        return context.make_array(array)(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def pointer_to(typingctx, memory, offset):
    """Pointer to ``memory[offset]``."""

    def codegen(context, builder, signature, args):
        return element_pointer(context, builder, memory, *args)

    return types.CPointer(memory.dtype)(memory, types.intp), codegen


@device
def columns(matrix, first):
    """A matrix from one of its columns on: counted from 0, LLVM can vectorise loops over channels. (Its shape is still
    that of all of it.)"""
    return carray(pointer_to(matrix, first), matrix.shape)


@intrinsic
def vector_length(typingctx, memory):
    """Number of elements in a vector: a constant to the compiler, which an array's ``itemsize`` is not."""

    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, BYTES * 8 // memory.dtype.bitwidth)

    return types.intp(memory), codegen


@intrinsic
def cast(typingctx, memory, value):
    """A float64 rounded to the dtype of ``memory``."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[1], types.float64, memory.dtype)

    return memory.dtype(memory, types.float64), codegen


@intrinsic
def load(typingctx, memory, offset, count, fill):
    """The vector at ``memory[offset:]``; if ``count`` is less than a register holds, the rest is from ``fill``."""
    vector = Vector(memory.dtype)

    def codegen(context, builder, signature, args):
        value, start, n, other = args
        pointer = vector_pointer(context, builder, memory, value, start, other.type)
        with builder.if_else(builder.icmp_signed(">=", n, n.type(vector.lanes)), likely=True) as (whole, partial):
            with whole:
                loaded = builder.load(pointer, align=memory.dtype.bitwidth // 8)
                after_whole = builder.block
            with partial:
                masked = masked_operation(builder, "load", other.type, [pointer, *lane_mask(builder, memory, n), other])
                after_partial = builder.block
        result = builder.phi(other.type)
        result.add_incoming(loaded, after_whole)
        result.add_incoming(masked, after_partial)
        return result

    return vector(memory, types.intp, types.intp, vector), codegen


@intrinsic
def store(typingctx, memory, offset, count, value):
    """Write ``value``, or as many of its first lanes as ``count`` says, to ``memory[offset:]``."""

    def codegen(context, builder, signature, args):
        target, start, n, vector = args
        pointer = vector_pointer(context, builder, memory, target, start, vector.type)
        with builder.if_else(builder.icmp_signed(">=", n, n.type(value.lanes)), likely=True) as (whole, partial):
            with whole:
                builder.store(vector, pointer, align=memory.dtype.bitwidth // 8)
            with partial:
                masked_operation(builder, "store", ir.VoidType(), [vector, pointer, *lane_mask(builder, memory, n)])
        return context.get_dummy_value()

    return types.void(memory, types.intp, types.intp, value), codegen


@intrinsic
def accumulate(typingctx, sums, offset, value):
    """Add a whole vector, as float64, to ``sums[offset:]``, which must have room for it."""

    def codegen(context, builder, signature, args):
        target, start, vector = args
        wide = ir.VectorType(ir.DoubleType(), value.lanes)
        if value.dtype == types.float32:
            vector = builder.fpext(vector, wide)
        pointer = vector_pointer(context, builder, sums, target, start, wide)
        builder.store(builder.fadd(builder.load(pointer, align=8), vector), pointer, align=8)
        return context.get_dummy_value()

    return types.void(sums, types.intp, value), codegen


@intrinsic
def stream(typingctx, memory, offset, value):
    """Write ``value`` past the caches to ``memory[offset:]``, which must be aligned to its size (``unaligned``).

    Memory that is written so is not read first, and pushes nothing out of the caches. ``fence`` orders it.
    """

    def codegen(context, builder, signature, args):
        target, start, vector = args
        pointer = vector_pointer(context, builder, memory, target, start, vector.type)
        written = builder.store(vector, pointer, align=BYTES)
        written.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(INT32, 1)]))
        return context.get_dummy_value()

    return types.void(memory, types.intp, value), codegen


@intrinsic
def fence(typingctx):
    """Let other threads see what this one streamed before anything that it writes later."""

    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def unaligned(typingctx, memory, offset):
    """Number of elements from ``memory[offset]`` to the next one at which a vector is aligned to its size."""

    def codegen(context, builder, signature, args):
        target, start = args
        address = builder.ptrtoint(element_pointer(context, builder, memory, target, start), start.type)
        left = builder.and_(builder.neg(address), address.type(BYTES - 1))
        return builder.udiv(left, address.type(memory.dtype.bitwidth // 8))

    return types.intp(memory, types.intp), codegen


@intrinsic
def prefetch(typingctx, memory, offset):
    """Ask for the cache line of ``memory[offset]`` to be brought to the second-level cache; any offset will do."""

    def codegen(context, builder, signature, args):
        target, start = args
        element = element_pointer(context, builder, memory, target, start)
        pointer = builder.bitcast(element, ir.IntType(8).as_pointer())
        function_type = ir.FunctionType(ir.VoidType(), [pointer.type, INT32, INT32, INT32])
        function = builder.module.declare_intrinsic("llvm.prefetch.p0", (), function_type)
        read, second_level, data_cache = (ir.Constant(INT32, value) for value in (0, 2, 1))
        builder.call(function, [pointer, read, second_level, data_cache])
        return context.get_dummy_value()

    return types.void(memory, types.intp), codegen


def empty(memory, rows, columns):
    """In kernels: an uninitialised matrix of the dtype of ``memory``, aligned as vectors are: others cost half more."""
    raise NotImplementedError("only for use in kernels")


@overload(empty)
def _empty(memory, rows, columns):
    dtype = as_dtype(memory.dtype)

    def allocate(memory, rows, columns):
        flat = np.empty(rows * columns + BYTES, dtype)
        start = unaligned(flat, 0)
        return flat[start : start + rows * columns].reshape(rows, columns)

    return allocate


@device
def to_boundary(memory, offset, streams):
    """How many elements the first vector of a row takes, so that the others are aligned where they are streamed."""
    first = unaligned(memory, offset) if streams else vector_length(memory)
    return first if first > 0 else vector_length(memory)


@device
def put(memory, offset, count, value, streams):
    """``store``, or ``stream`` where wanted and the vector is whole."""
    if streams and count >= vector_length(memory):
        stream(memory, offset, value)
    else:
        store(memory, offset, count, value)
