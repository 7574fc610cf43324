"""What a block shares, in the code that LLVM is given: see ``block``."""

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from . import llvm
from .llvm import SPAN
from .memory import BYTES


@intrinsic
def shared(typingctx, memory, rows, columns):
    """Memory that a block shares: a literal number of rows of so many columns, each of a number for every lane."""
    vector = memory.dtype.vector if isinstance(memory.dtype, llvm.Packed) else llvm.Vector(memory.dtype, 1)
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(columns, types.IntegerLiteral):
        return None

    def codegen(context, builder, signature, args):
        element = context.get_value_type(vector.dtype)
        array = ir.ArrayType(element, rows.literal_value * columns.literal_value * vector.lanes)
        name = builder.module.get_unique_name("shared")
        block = ir.GlobalVariable(builder.module, array, name, addrspace=llvm.SHARED)
        block.linkage, block.initializer, block.align = "internal", ir.Constant(array, ir.Undefined), BYTES
        return builder.addrspacecast(builder.gep(block, [ir.Constant(llvm.INT32, 0)] * 2), element.as_pointer())

    return types.CPointer(vector.dtype)(memory, rows, columns), codegen


@intrinsic
def on_chip(typingctx, memory, first):
    """Memory like another for vectors that a block shares, from a number on. How much, the launch tells."""
    packed = memory.dtype
    chip = llvm.Packed(packed.dtype, packed.lanes, packed.real, packed.ragged, on_chip=True)

    def codegen(context, builder, signature, args):
        array = ir.ArrayType(packed.storage, 0)
        block = builder.module.globals.get(llvm.CHIP_SYMBOL)
        if block is None:
            block = ir.GlobalVariable(builder.module, array, llvm.CHIP_SYMBOL, addrspace=llvm.SHARED)
            block.linkage, block.align = "external", BYTES
        pointer = builder.addrspacecast(builder.gep(block, [llvm.INT32(0)] * 2), packed.storage.as_pointer())
        return builder.gep(pointer, [context.cast(builder, args[1], first, types.int64)])

    return types.CPointer(chip)(memory, first), codegen


@intrinsic
def fetch(typingctx, chip, memory, offset, span):
    """Begin to copy a vector onto the chip, in which lanes that are not of the row are left to chance."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        target, source, at, span = args
        target = builder.gep(target, [builder.extract_value(span, 3)])
        if not packed.ragged:
            llvm.fetch(builder, packed, target, builder.gep(source, [at]))
            return context.get_dummy_value()
        with builder.if_else(builder.icmp_signed("<", at, builder.extract_value(span, 0))) as (before, after):
            with before:
                llvm.fetch(builder, packed, target, builder.gep(source, [at]))
            with after:
                pieces = llvm.loaded_in_pieces(builder, packed, source, at, builder.extract_value(span, 2))
                builder.store(pieces, target, align=packed.bytes)
        return context.get_dummy_value()

    return types.void(chip, memory, types.int64, SPAN), codegen


@intrinsic
def wait_for_copies(typingctx):
    """Wait for all that this thread has begun to copy."""

    def codegen(context, builder, signature, args):
        wait = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "cp.async.wait_all;", "~{memory}", side_effect=True)
        builder.call(wait, [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def arrive(typingctx, counters, team, size):
    """Count a block of a team; what it has written, those see who see the count."""

    def codegen(context, builder, signature, args):
        return _count(context, builder, signature, args, "release")

    return types.void(counters, team, size), codegen


@intrinsic
def leave(typingctx, counters, team, size):
    """Count a block once more when it has seen all arrive; the count after the last one is 0."""

    def codegen(context, builder, signature, args):
        return _count(context, builder, signature, args, "relaxed")

    return types.void(counters, team, size), codegen


def _count(context, builder, signature, args, order):
    """One more, up to twice the team's size less 1, then 0."""
    counters, team, size = args
    pointer = builder.gep(counters, [context.cast(builder, team, signature.args[1], types.int64)])
    size = context.cast(builder, size, signature.args[2], types.int32)
    most = builder.sub(builder.shl(size, llvm.INT32(1)), llvm.INT32(1))
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, llvm.INT32])
    text = f"red.{order}.gpu.inc.u32 [$0], $1;"
    builder.call(ir.InlineAsm(kind, text, "l,r,~{memory}", side_effect=True), [pointer, most])
    return context.get_dummy_value()


@intrinsic
def arrivals(typingctx, counters, team):
    """How many blocks of a team have been counted."""

    def codegen(context, builder, signature, args):
        pointer = builder.gep(args[0], [context.cast(builder, args[1], team, types.int64)])
        kind = ir.FunctionType(llvm.INT32, [pointer.type])
        text = "ld.acquire.gpu.u32 $0, [$1];"
        return builder.call(ir.InlineAsm(kind, text, "=r,l,~{memory}", side_effect=True), [pointer])

    return types.int32(counters, team), codegen
