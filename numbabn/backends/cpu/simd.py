"""Vectors in Numba: a register type and the arithmetic that the kernels are made of.

A :class:`Vector` is 64 bytes of one dtype (16 float32 or 8 float64 lanes): one AVX-512 register, two AVX2 ones, four
of NEON. Spelling vectors out rather than leaving them to the optimiser buys three things: sums have one fixed order,
whichever kernel a loop is inlined into and however many threads run it; the end of a row takes a masked operation
instead of a scalar loop (see ``memory``); and no fast-math flag is needed, so NaN and Inf behave as IEEE 754 says.
"""

import operator

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

BYTES = 64
INT32 = ir.IntType(32)


class Vector(types.Type):
    """Numba type of one register full of ``dtype``."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.lanes = BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Vector({dtype} x {self.lanes})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """LLVM's own vector type, so that values live in registers."""

    def __init__(self, dmm, fe_type):
        element = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


def splat_lanes(builder, scalar, vector_type):
    """LLVM's way to put a scalar in every lane."""
    undefined = ir.Constant(vector_type, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, vector_type.count), None))


@intrinsic
def splat(typingctx, scalar):
    """A vector with ``scalar`` in every lane."""
    vector = Vector(scalar)

    def codegen(context, builder, signature, args):
        return splat_lanes(builder, args[0], context.get_value_type(vector))

    return vector(scalar), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """``a * b + c``, rounded once where the machine can do so, and alike in every kernel."""

    def codegen(context, builder, signature, args):
        suffix = f"v{a.lanes}f{a.dtype.bitwidth}"
        function_type = ir.FunctionType(args[0].type, [args[0].type] * 3)
        function = builder.module.declare_intrinsic(f"llvm.fmuladd.{suffix}", (), function_type)
        return builder.call(function, args)

    return a(a, a, a), codegen


@intrinsic
def relu(typingctx, value):
    """``max(value, 0)`` by lane; NaN stays NaN."""

    def codegen(context, builder, signature, args):
        zero = ir.Constant(args[0].type, [0.0] * value.lanes)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])

    return value(value), codegen


@intrinsic
def where_active(typingctx, gradient, value):
    """``gradient`` in the lanes where ReLU let ``value`` through (or ``value`` is NaN), else 0."""

    def codegen(context, builder, signature, args):
        zero = ir.Constant(args[0].type, [0.0] * gradient.lanes)
        return builder.select(builder.fcmp_ordered("<=", args[1], zero), zero, args[0])

    return gradient(gradient, gradient), codegen


@intrinsic
def blend(typingctx, count, head, tail):
    """The first ``count`` lanes of ``head``, and the others of ``tail``."""

    def codegen(context, builder, signature, args):
        index = ir.Constant(ir.VectorType(INT32, head.lanes), list(range(head.lanes)))
        limit = splat_lanes(builder, builder.trunc(args[0], INT32), index.type)
        return builder.select(builder.icmp_signed("<", index, limit), args[1], args[2])

    return head(types.intp, head, head), codegen


@intrinsic
def total(typingctx, value):
    """Sum of the lanes as float64, halves folded onto each other: a fixed order."""

    def codegen(context, builder, signature, args):
        wide = args[0]
        if value.dtype == types.float32:
            wide = builder.fpext(wide, ir.VectorType(ir.DoubleType(), value.lanes))
        lanes = value.lanes
        while lanes > 1:
            lanes //= 2
            undefined = ir.Constant(wide.type, ir.Undefined)
            index = ir.VectorType(INT32, lanes)
            low = builder.shuffle_vector(wide, undefined, ir.Constant(index, list(range(lanes))))
            high = builder.shuffle_vector(wide, undefined, ir.Constant(index, list(range(lanes, 2 * lanes))))
            wide = builder.fadd(low, high)
        return builder.extract_element(wide, ir.Constant(INT32, 0))

    return types.float64(value), codegen


def _operator(symbols, instruction):
    """Let ``a <symbol> b`` of two equal vectors be one LLVM instruction."""

    def typer(context):
        return lambda a, b: a if isinstance(a, Vector) and a == b else None

    def lower(context, builder, signature, args):
        return getattr(builder, instruction)(*args)

    for symbol in symbols:
        type_callable(symbol)(typer)
        lower_builtin(symbol, Vector, Vector)(lower)


_operator((operator.add, operator.iadd), "fadd")
_operator((operator.sub, operator.isub), "fsub")
_operator((operator.mul, operator.imul), "fmul")
