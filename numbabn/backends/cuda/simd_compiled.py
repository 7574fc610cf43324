"""Vectors in the code that LLVM is given: see ``simd``."""

import math
import operator

from llvmlite import ir
from numba.cuda import types
from numba.cuda.cudaimpl import lower as lower_for_cuda
from numba.cuda.extending import intrinsic, type_callable

from . import llvm
from .llvm import SPAN


@intrinsic
def load(typingctx, memory, offset):
    """The vector at ``memory[offset]``."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        return llvm.read(builder, packed, *args)

    return packed.vector(memory, offset), codegen


@intrinsic
def store(typingctx, memory, offset, value):
    """Write a vector to ``memory[offset]``."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        llvm.write(builder, packed, *args)
        return context.get_dummy_value()

    return types.void(memory, offset, value), codegen


@intrinsic
def load_within(typingctx, memory, offset, span, fill):
    """The vector at an offset; lanes that are not of the row ``span`` hold those of ``fill``.

    A span is ``(whole, first, stop, number)``: how many vectors lie in memory entirely, after which no other lane is
    read; the row's first element, and the one after its last; the vector's number, if memory is on chip. (Of whole
    vectors all lanes are read: a warp takes one way.)
    """
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        source, at, span, fill = args
        whole, _, stop, number = (builder.extract_value(span, k) for k in range(4))
        if packed.on_chip or not packed.ragged:
            value = llvm.loaded(builder, packed, source, number if packed.on_chip else at)
        else:
            with builder.if_else(builder.icmp_signed("<", at, whole)) as (before, after):
                with before:
                    vector, first_block = llvm.loaded(builder, packed, source, at), builder.block
                with after:
                    pieces, second_block = llvm.loaded_in_pieces(builder, packed, source, at, stop), builder.block
            value = builder.phi(vector.type)
            value.add_incoming(vector, first_block)
            value.add_incoming(pieces, second_block)
        value = llvm.widened(builder, packed, value)  # once, for both ways
        if not packed.ragged:
            return value
        lanes = zip(*(llvm.lanes_of(builder, vector) for vector in (value, fill)), strict=True)
        inside = llvm.lanes_inside(builder, packed, *llvm.edges_of(builder, packed, at, span))
        return llvm.joined(builder, [builder.select(one, *pair) for one, pair in zip(inside, lanes, strict=True)])

    return packed.vector(memory, types.int64, SPAN, fill), codegen


@intrinsic
def store_within(typingctx, memory, offset, span, value):
    """Write those lanes of a vector that are of a row."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        target, at, span, vector = args
        if not packed.ragged:
            llvm.write(builder, packed, target, at, vector)
            return context.get_dummy_value()
        low, high = llvm.edges_of(builder, packed, at, span)
        full = builder.icmp_signed("==", builder.sub(high, low), llvm.INT32(packed.lanes))
        with builder.if_else(full) as (entire, partial):
            with entire:
                llvm.write(builder, packed, target, at, vector)
            with partial:
                single, begin = llvm.as_single(builder, packed, target), builder.mul(at, llvm.INT64(packed.lanes))
                written = zip(
                    llvm.lanes_of(builder, vector), llvm.lanes_inside(builder, packed, low, high), strict=True
                )
                for lane, (value, inside) in enumerate(written):
                    with builder.if_then(inside):
                        element = builder.add(begin, llvm.INT64(lane))
                        llvm.write(builder, packed.single, single, element, llvm.joined(builder, [value]))
        return context.get_dummy_value()

    return types.void(memory, types.int64, SPAN, value), codegen


@intrinsic
def count_within(typingctx, memory, offset, span):
    """How many lanes of a vector are of the row."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        if not packed.ragged:
            return llvm.INT32(packed.lanes)
        low, high = llvm.edges_of(builder, packed, args[1], args[2])
        return builder.select(builder.icmp_signed("<", low, high), builder.sub(high, low), llvm.INT32(0))

    return types.int32(memory, types.int64, SPAN), codegen


@intrinsic
def first_within(typingctx, memory, value, offset, span, fallback):
    """The first lane of a vector that is of a row, or ``fallback`` if none is."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        _, vector, at, span, found = args
        if not packed.ragged:
            return llvm.lanes_of(builder, vector)[0]
        inside = llvm.lanes_inside(builder, packed, *llvm.edges_of(builder, packed, at, span))
        for lane, is_inside in reversed([*zip(llvm.lanes_of(builder, vector), inside, strict=True)]):
            found = builder.select(is_inside, lane, found)
        return found

    return fallback(memory, value, types.int64, SPAN, fallback), codegen


@intrinsic
def element(typingctx, memory, index):
    """One element."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        value = llvm.read(builder, packed.single, llvm.as_single(builder, packed, args[0]), args[1])
        return llvm.lanes_of(builder, value)[0]

    return packed.vector.dtype(memory, types.int64), codegen


@intrinsic
def vector_of(typingctx, memory, element):
    """The offset of the vector that an element is in."""
    lanes = memory.dtype.lanes

    def codegen(context, builder, signature, args):
        return builder.udiv(args[1], llvm.INT64(lanes))

    return types.int64(memory, types.int64), codegen


@intrinsic
def lanes(typingctx, memory):
    """Elements in a vector: a constant to the compiler."""
    count = memory.dtype.lanes

    def codegen(context, builder, signature, args):
        return context.get_constant(types.int32, count)

    return types.int32(memory), codegen


@intrinsic
def splat(typingctx, memory, scalar):
    """A vector with ``scalar`` in every lane."""
    vector = memory.dtype.vector

    def codegen(context, builder, signature, args):
        return llvm.joined(builder, [context.cast(builder, args[1], scalar, vector.dtype)] * vector.lanes)

    return vector(memory, scalar), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """``a * b + c``, rounded once."""

    def codegen(context, builder, signature, args):
        element = args[0].type.element
        name = "llvm.fma.f64" if element == llvm.DOUBLE else "llvm.fma.f32"
        function = builder.module.declare_intrinsic(name, (), ir.FunctionType(element, [element] * 3))
        lanes = zip(*(llvm.lanes_of(builder, arg) for arg in args), strict=True)
        return llvm.joined(builder, [builder.call(function, values) for values in lanes])

    return a(a, a, a), codegen


@intrinsic
def relu(typingctx, value):
    """``max(value, 0)``; NaN stays NaN."""

    def codegen(context, builder, signature, args):
        zero = ir.Constant(args[0].type, [0.0] * value.lanes)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])

    return value(value), codegen


@intrinsic
def where_active(typingctx, gradient, value):
    """``gradient`` where ReLU let ``value`` through (or it is NaN), else 0."""

    def codegen(context, builder, signature, args):
        zero = ir.Constant(args[0].type, [0.0] * gradient.lanes)
        return builder.select(builder.fcmp_ordered("<=", args[1], zero), zero, args[0])

    return gradient(gradient, gradient), codegen


@intrinsic
def without(typingctx, value, product):
    """``value - product``, or ``value`` where the product is 0 or not finite: see ``constants.without_missing``."""

    def codegen(context, builder, signature, args):
        whole, product = args
        counts = None
        for symbol, limit in ((">", -math.inf), ("<", math.inf), ("!=", 0.0)):
            holds = builder.fcmp_ordered(symbol, product, ir.Constant(product.type, [limit] * value.lanes))
            counts = holds if counts is None else builder.and_(counts, holds)
        return builder.select(counts, builder.fsub(whole, product), whole)

    return value(value, value), codegen


@intrinsic
def total(typingctx, value):
    """Sum of the lanes, halves folded onto each other."""

    def codegen(context, builder, signature, args):
        terms = llvm.lanes_of(builder, args[0])
        while len(terms) > 1:
            half = len(terms) // 2
            terms = [builder.fadd(terms[lane], terms[lane + half]) for lane in range(half)]
        return terms[0]

    return value.dtype(value), codegen


def _operator(symbols, instruction):
    """Let ``a <symbol> b`` of two equal vectors be one LLVM instruction."""

    def typer(context):
        return lambda a, b: a if isinstance(a, llvm.Vector) and a == b else None

    def lowering(context, builder, signature, args):
        return getattr(builder, instruction)(*args)

    for symbol in symbols:
        type_callable(symbol)(typer)
        lower_for_cuda(symbol, llvm.Vector, llvm.Vector)(lowering)


_operator((operator.add, operator.iadd), "fadd")
_operator((operator.sub, operator.isub), "fsub")
_operator((operator.mul, operator.imul), "fmul")


@intrinsic
def cast(typingctx, numbers, value):
    """A number of the dtype of ``numbers``."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[1], value, numbers.dtype)

    return numbers.dtype(numbers, value), codegen


@intrinsic
def gather(typingctx, memory, numbers, base, start, stop):
    """A vector like those of ``memory`` from consecutive numbers from ``base`` on, of which there are ``stop``.

    Ragged memory's lanes before the first number and after the last hold these.
    """
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        _, source, base, start, stop = args
        places = llvm.consecutive(builder, packed, start, stop)
        return llvm.joined(builder, [builder.load(builder.gep(source, [builder.add(base, place)])) for place in places])

    return packed.vector(memory, numbers, types.int64, types.int64, types.int64), codegen


@intrinsic
def gather_data(typingctx, memory, start, stop):
    """The same from the elements of ``memory``."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        source, start, stop = args
        if not packed.ragged:
            return llvm.read(builder, packed, source, builder.udiv(start, llvm.INT64(packed.lanes)))
        single, found = llvm.as_single(builder, packed, source), []
        for place in llvm.consecutive(builder, packed, start, stop):
            found += llvm.lanes_of(builder, llvm.read(builder, packed.single, single, place))
        return llvm.joined(builder, found)

    return packed.vector(memory, types.int64, types.int64), codegen


@intrinsic
def scatter(typingctx, numbers, start, step, value):
    """Write the lanes of a vector ``step`` apart."""

    def codegen(context, builder, signature, args):
        index = context.cast(builder, args[1], start, types.int64)
        distance = context.cast(builder, args[2], step, types.int64)
        for element in llvm.lanes_of(builder, args[3]):
            builder.store(element, builder.gep(args[0], [index]))
            index = builder.add(index, distance)
        return context.get_dummy_value()

    return types.void(numbers, start, step, value), codegen
